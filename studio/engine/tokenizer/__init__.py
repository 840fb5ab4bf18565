"""Text to token ids and back, built from the metadata of a GGUF file."""

from studio.engine.tokenizer.build import tokenizer_from_metadata
from studio.engine.tokenizer.stream import StreamDecoder
from studio.engine.tokenizer.tokenizer import Tokenizer

__all__ = ["StreamDecoder", "Tokenizer", "tokenizer_from_metadata"]

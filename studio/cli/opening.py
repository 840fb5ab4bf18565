"""Opens a base with its adapters for one command: the same session as the desk's, and an engine."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from studio.cli.command_line import AdapterArgument
from studio.cli.output import finish
from studio.contracts import Engine
from studio.engine.tokenizer import Tokenizer
from studio.errors import StudioError, UnsupportedError
from studio.registry import Registry, load_plugins
from studio.resources import resolve
from studio.session.session import Session

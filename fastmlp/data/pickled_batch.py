"""Read a pickled CIFAR-10 batch without unpickling it.

A pickle is a program for a stack machine, and Python's machine runs whatever program a stranger wrote. The one below
knows only the instructions that build the plain values of a batch. A name such as `os.system` is a `_Global`, a pair of
words that nothing looks up, and the only "calls" are the four patterns in `_reduce`, which stand for an array of bytes.
Nothing is imported, called, or allocated at a size that a number in the file chose.
"""

from __future__ import annotations

import pickletools
import warnings
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastmlp.errors import DataError

# An official batch takes about 40,000 instructions and one pickled anew by Python 3 up to 90,000. The limit keeps a
# file full of one-byte instructions from becoming gigabytes of Python objects.
MAX_INSTRUCTIONS = 250_000

_NUMBERS = frozenset({"BININT", "BININT1", "BININT2", "LONG1"})
_TEXTS = frozenset({"SHORT_BINSTRING", "BINSTRING", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"})
_BYTES = frozenset({"SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8"})
_LITERALS = _NUMBERS | _TEXTS | _BYTES
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_TUPLE_LENGTHS = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_TEXT_ENCODINGS = ("latin1", "latin-1")


class _Global(NamedTuple):
    """The name of something that an unpickler would import."""

    module: str
    name: str


class _ByteType:
    """numpy.dtype("u1")."""


@dataclass(eq=False)
class _Array:
    """A NumPy array of bytes: made empty, then given its shape and its content.

    The content is text where the file holds it so (Python 2, or Python 3 in protocol 2): one character per byte.
    """

    shape: tuple[int, ...] = (0,)
    content: str | bytes | bytearray = b""


class _RefusedError(ValueError):
    """The program does something that no batch does."""


def read_pickled_batch(data: bytes, shape: tuple[int, int], where: str) -> tuple[npt.NDArray[np.uint8], list[int]]:
    """Images and labels of a batch in the layout `cifar-10-batches-py`.

    Parameters
    ----------
    data : bytes
        The whole file. The caller limits its size.
    shape : (int, int)
        The number of images and of bytes per image that the batch must have.
    where : str
        What messages call the file.

    Returns
    -------
    images : ndarray of `shape`, uint8
        Read-only.
    labels : list of int
        One per image; their values are not checked here.

    Raises
    ------
    DataError
        For anything that is not exactly such a batch.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)     # of escapes in a text that is about to be refused
            array, labels = _array_and_labels(_run(data))
        content = array.content.encode("latin-1") if isinstance(array.content, str) else array.content
    except ValueError as error:
        raise DataError(f"{where} is not a CIFAR-10 batch: {error}") from error
    except (IndexError, KeyError) as error:  # from an empty stack, or a place in the memo that was never filled
        raise DataError(f"{where} is not a CIFAR-10 batch: it takes values that it never made") from error
    if array.shape != shape or len(content) != shape[0] * shape[1]:
        raise DataError(f"'data' in {where} has the shape {array.shape} and {len(content)} bytes; expected {shape}")
    if len(labels) != shape[0]:
        raise DataError(f"'labels' in {where} has {len(labels)} entries; expected {shape[0]}")
    return np.frombuffer(content, np.uint8).reshape(shape), labels


def _array_and_labels(batch: Any) -> tuple[_Array, list[int]]:
    if type(batch) is not dict:
        raise _RefusedError("it holds no dictionary")
    array, labels = batch.get("data"), batch.get("labels")
    if type(array) is not _Array:
        raise _RefusedError("'data' is not an array of bytes")
    if type(labels) is not list or any(type(label) is not int for label in labels):
        raise _RefusedError("'labels' is not a list of integers")
    return array, labels


def _run(program: bytes) -> Any:
    """Run the pickle and return the value it builds; see the module's text for what it can do."""
    stack: list[Any] = []
    marks: list[int] = []  # the stack's heights where MARK was met
    memo: dict[int, Any] = {}

    def pop(count: int = 1) -> list[Any]:
        if len(stack) < count:
            raise IndexError
        taken = stack[len(stack) - count :]
        del stack[len(stack) - count :]
        return taken

    def pop_to_mark() -> list[Any]:
        return pop(len(stack) - marks.pop())

    argument: Any
    for count, (instruction, argument, _) in enumerate(pickletools.genops(program)):
        if count >= MAX_INSTRUCTIONS:
            raise _RefusedError(f"it takes more than {MAX_INSTRUCTIONS} instructions")
        name = instruction.name
        if name in _LITERALS:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _TUPLE_LENGTHS:
            stack.append(tuple(pop(_TUPLE_LENGTHS[name])))
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name == "MARK":
            marks.append(len(stack))
        elif name == "EMPTY_TUPLE":
            stack.append(())
        elif name == "TUPLE":
            stack.append(tuple(pop_to_mark()))
        elif name == "EMPTY_LIST":
            stack.append([])
        elif name in ("APPEND", "APPENDS"):
            values = pop() if name == "APPEND" else pop_to_mark()
            _expect(stack[-1], list).extend(values)
        elif name == "EMPTY_DICT":
            stack.append({})
        elif name in ("SETITEM", "SETITEMS"):
            values = pop(2) if name == "SETITEM" else pop_to_mark()
            _expect(stack[-1], dict).update(zip(map(_key, values[::2]), values[1::2], strict=True))
        elif name == "GLOBAL":
            stack.append(_Global(*argument.split(" ", 1)))
        elif name == "STACK_GLOBAL":
            stack.append(_Global(*(_expect(word, str) for word in pop(2))))
        elif name == "REDUCE":
            stack.append(_reduce(*pop(2)))
        elif name == "BUILD":
            (state,) = pop()
            _build(stack[-1], state)
        elif name == "STOP":
            return stack[-1]
        elif name not in ("PROTO", "FRAME"):
            raise _RefusedError(f"it uses the instruction {name}, which no batch needs")
    raise _RefusedError("it never ends")


def _expect(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise _RefusedError(f"it treats a {type(value).__name__.strip('_')} as a {kind.__name__}")
    return value


def _key(value: Any) -> str:
    """A dictionary's key; Python 2 wrote it as bytes, Python 3 as text or bytes."""
    return str(value, "latin-1") if type(value) is bytes else str(_expect(value, str))


def _reduce(function: Any, arguments: Any) -> Any:
    """The value of the few calls that a pickled array of bytes consists of; anything else is refused."""
    if type(function) is not _Global or type(arguments) is not tuple:
        raise _RefusedError("it calls something without a name")
    match tuple(function), arguments:
        case (("numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct"), (("numpy", "ndarray"), (0,), _)):
            return _Array()
        case (("numpy", "dtype"), ("u1" | b"u1", _, _)):
            return _ByteType()
        case (("numpy.core.numeric" | "numpy._core.numeric", "_frombuffer"), (content, _ByteType(), shape, "C")):
            return _array(shape, content)
        case (("_codecs", "encode"), (str(text), encoding)) if encoding in _TEXT_ENCODINGS:
            return text  # unchanged, so that a file cannot have the same text copied time and again
    raise _RefusedError(f"it calls {function.module:.80}.{function.name:.80} in a way that no batch needs")


def _build(target: Any, state: Any) -> None:
    """Give an array its content. A byte's dtype comes with a state too, which says nothing new."""
    match target, state:
        case _ByteType(), tuple():
            return
        case _Array(), (1, shape, _ByteType(), order, content) if order in (0, False):
            whole = _array(shape, content)
            target.shape, target.content = whole.shape, whole.content
        case _:
            raise _RefusedError(f"it gives a {type(target).__name__.strip('_')} a state that no batch needs")


def _array(shape: Any, content: Any) -> _Array:
    if type(shape) is not tuple or len(shape) != 2 or any(type(length) is not int for length in shape):
        raise _RefusedError("it holds an array that does not have two axes")
    if type(content) not in (str, bytes, bytearray):
        raise _RefusedError("it holds an array without content")
    return _Array(shape, content)

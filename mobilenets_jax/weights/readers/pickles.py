"""Reads pickle programs without running anything that they name.

Python's unpickler imports and calls whatever function a program names. Here the program is decoded
(`pickletools.genops`, which executes nothing) and interpreted by the instructions that build plain values. A function
or class is a name that is looked up in the table of calls that the reader of the format gives; what any other name
would make becomes an `Inert`, a placeholder that is never imported nor run.
"""

import dataclasses
import io
import pickletools
from collections.abc import Callable, Mapping
from typing import Any

from mobilenets_jax.weights.readers.errors import UnreadableFileError, check_bytes

MAX_NAME_LENGTH = 200
# Of a program. The programs of real checkpoints have less than a tenth of it.
MAX_PROGRAM_BYTES = 1 << 23
MAX_INSTRUCTIONS = 2_000_000  # each may take a hundred bytes of memory
# Keys of dictionaries; any other one, such as a tuple, whose hash may take forever, is replaced by an `Inert`.
_KEYS = (str, bytes, int, float, bool, type(None))


@dataclasses.dataclass(frozen=True)
class Name:
    """A function or class that the program names, e.g. 'os.system'."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclasses.dataclass(eq=False)
class Inert:
    """The place of an object that the program would make by calling something that is not known to be harmless.

    Attributes:
        name: of the function or class that would be called.
        state: the state that the program would set, e.g. a dict of the object's attributes.
    """

    name: str
    state: Any = None


class Interpreter:
    """Runs pickle programs that build plain values; one instance for all programs of a file.

    Args:
        calls: what may be called, by its dotted name there.
        persistent: from a persistent id to its value.

    Attributes:
        inert: the names of all objects that became placeholders, each once, in the order of the program.
    """

    def __init__(self, calls: Mapping[str, Callable[..., Any]], persistent: Callable[[Any], Any]):
        self._calls = calls
        self._persistent = persistent
        self.inert: dict[str, None] = {}

    def run(self, stream: io.BufferedIOBase) -> Any:
        """The value of the program that starts at the stream's position; leaves the stream after it.

        Raises:
            UnreadableFileError: the program is damaged, or uses an instruction of no known writer.
        """
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        try:
            start, self._copied = stream.tell(), 0
            for number, (opcode, argument, position) in enumerate(pickletools.genops(stream)):
                if number >= MAX_INSTRUCTIONS:
                    raise UnreadableFileError(f'its pickle program has more than {MAX_INSTRUCTIONS} instructions')
                check_bytes('its pickle program has', position - start, MAX_PROGRAM_BYTES)
                if opcode.name == 'STOP':
                    return self._stack.pop()
                self._step(opcode.name, argument)
        except UnreadableFileError:
            raise
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise UnreadableFileError(f'its pickle program is damaged ({error})') from error
        raise UnreadableFileError('its pickle program has no end')

    def _step(self, name: str, argument: Any) -> None:
        stack = self._stack
        if name in _LITERALS:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _CONTAINERS:
            stack.append(_CONTAINERS[name]())
        elif name in _TUPLES:
            count = _TUPLES[name]
            stack[-count:] = [tuple(stack[-count:])]
        elif name in _PUTS:
            self._memo[len(self._memo) if argument is None else argument] = stack[-1]
        elif name in _GETS:
            stack.append(self._memo[argument])
        elif name in _INSTRUCTIONS:
            _INSTRUCTIONS[name](self, argument)
        elif name not in _IGNORED:
            raise UnreadableFileError(f'its pickle program uses {name}, which no known writer does')

    def _pop_mark(self) -> list[Any]:
        start = self._marks.pop()
        items, self._stack[start:] = self._stack[start:], []
        return items

    def _extend(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if isinstance(target, list):
            target.extend(items)
        elif not isinstance(target, Inert):
            raise UnreadableFileError('it appends to what is no list')

    def _set_items(self, items: list[Any]) -> None:
        target = self._stack[-1]
        keys = [key if isinstance(key, _KEYS) else Inert(type(key).__name__) for key in items[::2]]
        if isinstance(target, dict):
            target.update(zip(keys, items[1::2], strict=True))
        elif not isinstance(target, Inert):
            raise UnreadableFileError('it sets items of what is no dictionary')

    def _build(self) -> None:
        """Sets the attributes of an object; those of a dict, such as a state dict's _metadata, say nothing here."""
        state = self._stack.pop()
        if isinstance(self._stack[-1], Inert):
            self._stack[-1].state = state

    def _make_dict(self) -> None:
        items = self._pop_mark()
        self._stack.append({})
        self._set_items(items)

    def _call(self, function: Any, arguments: Any) -> None:
        name = str(function) if isinstance(function, Name) else 'an object of its own'
        if name in self._calls:
            # Each may copy its arguments: a list that is built once and passed a million times.
            self._copied += sum(len(argument) for argument in arguments if isinstance(argument, list | tuple | dict))
            check_bytes('its pickle program copies', self._copied, MAX_PROGRAM_BYTES)
            self._stack.append(self._calls[name](*arguments))
        else:
            self.inert[name] = None
            self._stack.append(Inert(name))


def _reduce(machine: Interpreter, _) -> None:
    arguments = machine._stack.pop()
    machine._call(machine._stack.pop(), arguments)


def _new_with_keywords(machine: Interpreter, _) -> None:
    machine._stack.pop()
    _reduce(machine, _)


def _object(machine: Interpreter, _) -> None:
    function, *arguments = machine._pop_mark()
    machine._call(function, arguments)


def _stack_global(machine: Interpreter, _) -> None:
    attribute, module = machine._stack.pop(), machine._stack.pop()
    machine._stack.append(_name(f'{module}.{attribute}'))


def _dotted(argument: str) -> Name:
    return _name(argument.replace(' ', '.', 1))


def _name(text: str) -> Name:
    """Fit to be printed, whatever the file has there."""
    return Name(''.join(letter if letter.isprintable() else '?' for letter in text[:MAX_NAME_LENGTH]))


_LITERALS = {
    *('BININT', 'BININT1', 'BININT2', 'LONG', 'LONG1', 'LONG4', 'INT', 'BINFLOAT', 'FLOAT'),
    *('UNICODE', 'BINUNICODE', 'SHORT_BINUNICODE', 'BINUNICODE8', 'STRING', 'BINSTRING', 'SHORT_BINSTRING'),
    *('BINBYTES', 'SHORT_BINBYTES', 'BINBYTES8', 'BYTEARRAY8'),
}
_CONSTANTS = {'NONE': None, 'NEWTRUE': True, 'NEWFALSE': False}
# Sets become lists: members may have a hash that takes forever, too.
_CONTAINERS = {'EMPTY_DICT': dict, 'EMPTY_LIST': list, 'EMPTY_TUPLE': tuple, 'EMPTY_SET': list}
_TUPLES = {'TUPLE1': 1, 'TUPLE2': 2, 'TUPLE3': 3}
_PUTS = {'BINPUT', 'LONG_BINPUT', 'PUT', 'MEMOIZE'}
_GETS = {'BINGET', 'LONG_BINGET', 'GET'}
_IGNORED = {'PROTO', 'FRAME'}
_INSTRUCTIONS: dict[str, Callable[[Interpreter, Any], None]] = {
    'MARK': lambda machine, _: machine._marks.append(len(machine._stack)),
    'POP': lambda machine, _: machine._stack.pop(),
    'POP_MARK': lambda machine, _: machine._pop_mark(),
    'DUP': lambda machine, _: machine._stack.append(machine._stack[-1]),
    'TUPLE': lambda machine, _: machine._stack.append(tuple(machine._pop_mark())),
    'LIST': lambda machine, _: machine._stack.append(machine._pop_mark()),
    'FROZENSET': lambda machine, _: machine._stack.append(machine._pop_mark()),
    'DICT': lambda machine, _: machine._make_dict(),
    'APPEND': lambda machine, _: machine._extend([machine._stack.pop()]),
    'APPENDS': lambda machine, _: machine._extend(machine._pop_mark()),
    'ADDITEMS': lambda machine, _: machine._extend(machine._pop_mark()),
    'SETITEM': lambda machine, _: machine._set_items([machine._stack.pop(-2), machine._stack.pop()]),
    'SETITEMS': lambda machine, _: machine._set_items(machine._pop_mark()),
    'GLOBAL': lambda machine, argument: machine._stack.append(_dotted(argument)),
    'STACK_GLOBAL': _stack_global,
    'REDUCE': _reduce,
    'NEWOBJ': _reduce,
    'NEWOBJ_EX': _new_with_keywords,
    'INST': lambda machine, argument: machine._call(_dotted(argument), machine._pop_mark()),
    'OBJ': _object,
    'BUILD': lambda machine, _: machine._build(),
    'BINPERSID': lambda machine, _: machine._stack.append(machine._persistent(machine._stack.pop())),
}

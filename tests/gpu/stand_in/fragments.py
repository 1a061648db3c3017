"""`ElementwiseKernel` and `ReductionKernel`: kernels given as fragments of CUDA source."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from emulator import CompiledKernel

from . import generated
from .array import ndarray, new, view_on
from .device import device
from .parameters import check_arguments, check_kernel, dtype_of, parse, types_of
from .raw import require_options

THREADS = 128


class ElementwiseKernel:
    """A fragment that is run once for every element of its arrays, which broadcast."""

    def __init__(self, in_params: str, out_params: str, operation: str, name: str = "kernel", reduce_dims: bool = True,
                 preamble: str = "", no_return: bool = False, return_tuple: bool = False, *,
                 options: tuple[str, ...] = (), loop_prep: str = "", after_loop: str = "") -> None:
        self.inputs, self.outputs = parse(in_params, constant=True), parse(out_params, constant=False)
        self.parameters = [*self.inputs, *self.outputs]
        check_kernel(name, self.parameters, reserved=("i",))
        require_options(options)
        self.name, self.operation, self.preamble, self.options = name, operation, preamble, options
        self.no_return, self.return_tuple = no_return, return_tuple
        self.loop_prep, self.after_loop = loop_prep, after_loop

    def __call__(self, *args: Any, size: int | None = None, block_size: int = THREADS, stream: Any = None) -> Any:
        n_in, n_all = len(self.inputs), len(self.parameters)
        if len(args) not in (n_in, n_all):
            raise TypeError(f"Wrong number of arguments for {self.name!r}. It must be either {n_in} or {n_all} "
                            f"(with outputs), but given {len(args)}.")
        inputs, outputs = list(args[:n_in]), list(args[n_in:])
        check_arguments(inputs, outputs)
        known: dict[str, np.dtype[Any]] = {}
        types_of(self.outputs, outputs, known)
        types_of(self.inputs, inputs, known)
        dtypes = [dtype_of(parameter, known) for parameter in self.parameters]

        shape = self._shape(inputs, outputs, size)
        if not outputs:
            if size is None and any(parameter.raw for parameter in self.outputs):
                raise ValueError("Output array size is Undecided")
            outputs = [new(shape, dtype) for dtype in dtypes[n_in:]]
        result = tuple(outputs)
        for parameter, output in zip(self.outputs, outputs, strict=True):
            if not parameter.raw and output.shape != shape:
                raise ValueError(f"Out shape is mismatched: {output.shape} is not {shape}")
        arguments = [
            view_on(np.broadcast_to(argument.content, shape), argument.memory)
            if isinstance(argument, ndarray) and not parameter.raw else argument
            for parameter, argument in zip(self.parameters, [*inputs, *outputs], strict=True)
        ]
        count = math.prod(shape)
        if count:
            self._launch(arguments, dtypes, known, count, block_size)
        if self.no_return:
            return None
        return result if self.return_tuple or len(result) != 1 else result[0]

    def _shape(self, inputs: list[Any], outputs: list[Any], size: int | None) -> tuple[int, ...]:
        """What the loop runs over: the arrays that are not raw, broadcast, or `size`."""
        arrays = [argument for parameter, argument in zip(self.parameters, [*inputs, *outputs], strict=False)
                  if isinstance(argument, ndarray) and not parameter.raw]
        if size is not None:
            if arrays:
                raise ValueError("Specified 'size' can be used only if all of the ndarray are 'raw'.")
            return (size,)
        if not arrays:
            raise ValueError("Loop size is undecided.")
        return np.broadcast_shapes(*(array.shape for array in arrays))

    def _launch(self, arguments: list[Any], dtypes: list[np.dtype[Any]], known: dict[str, np.dtype[Any]], count: int,
                block_size: int) -> None:
        source = generated.ELEMENTWISE.format(
            header=generated.HEADER, types=generated.type_names(known), preamble=self.preamble, name=self.name,
            signature=generated.signature(self.parameters, arguments), before=self.loop_prep,
            elements=generated.elements(self.parameters, arguments), operation=self.operation, after=self.after_loop)
        _submit(CompiledKernel(source, self.name, self.options), (-(-count // block_size),), (block_size,), arguments,
                dtypes, count)


class ReductionKernel:
    """A sum, maximum or the like: `map_expr` of every element, folded by `reduce_expr` of `a` and `b`."""

    def __init__(self, in_params: str, out_params: str, map_expr: str, reduce_expr: str, post_map_expr: str,
                 identity: str, name: str = "reduce_kernel", reduce_type: str | None = None, reduce_dims: bool = True,
                 preamble: str = "", options: tuple[str, ...] = ()) -> None:
        self.inputs, self.outputs = parse(in_params, constant=True), parse(out_params, constant=False)
        check_kernel(name, [*self.inputs, *self.outputs], reserved=())
        require_options(options)
        if len(self.outputs) != 1 or any(parameter.raw for parameter in (*self.inputs, *self.outputs)):
            raise NotImplementedError("the stand-in's ReductionKernel has one output and no raw parameters")
        self.name, self.map_expr, self.reduce_expr, self.post_map_expr = name, map_expr, reduce_expr, post_map_expr
        self.identity, self.preamble, self.options = identity, preamble, options
        self.reduce_type = reduce_type or self.outputs[0].type

    def __call__(self, *args: Any, out: ndarray | None = None, axis: int | tuple[int, ...] | None = None,
                 keepdims: bool = False, stream: Any = None) -> ndarray:
        if len(args) != len(self.inputs):
            raise TypeError(f"Wrong number of arguments for {self.name!r}: {len(args)}, not {len(self.inputs)}")
        check_arguments(args, [] if out is None else [out])
        known: dict[str, np.dtype[Any]] = {}
        types_of(self.outputs, [] if out is None else [out], known)
        types_of(self.inputs, args, known)
        dtypes = [dtype_of(parameter, known) for parameter in (*self.inputs, *self.outputs)]

        shape = np.broadcast_shapes(*(argument.shape for argument in args if isinstance(argument, ndarray)))
        everything = range(len(shape))
        axes = [k % len(shape) for k in (everything if axis is None else np.atleast_1d(axis).tolist())]
        kept = [k for k in everything if k not in axes]
        kept_shape = tuple(shape[k] for k in kept)
        full_shape = tuple(1 if k in axes else shape[k] for k in everything) if keepdims else kept_shape
        result = new(full_shape, dtypes[-1]) if out is None else out
        if result.shape != full_shape:
            raise ValueError(f"Out shape is mismatched: {result.shape} is not {full_shape}")

        inputs = [view_on(np.broadcast_to(a.content, shape).transpose(*kept, *axes), a.memory)
                  if isinstance(a, ndarray) else a for a in args]
        if math.prod(kept_shape):
            self._launch([*inputs, result], dtypes, known, math.prod(kept_shape), math.prod(shape[k] for k in axes))
        return result

    def _launch(self, arguments: list[Any], dtypes: list[np.dtype[Any]], known: dict[str, np.dtype[Any]],
                n_outputs: int, count: int) -> None:
        parameters = [*self.inputs, *self.outputs]
        source = generated.REDUCTION.format(
            header=generated.HEADER, types=generated.type_names(known), preamble=self.preamble, name=self.name,
            mapped=self.map_expr, reduced=self.reduce_expr, identity=self.identity, after=self.post_map_expr,
            accumulator=self.reduce_type, threads=THREADS, signature=generated.signature(parameters, arguments),
            inputs=generated.elements(self.inputs, arguments[:-1]),
            outputs=generated.elements(self.outputs, arguments[-1:]))
        _submit(CompiledKernel(source, self.name, self.options), (n_outputs,), (THREADS,), arguments, dtypes, count)


def _submit(kernel: CompiledKernel, grid: tuple[int, ...], block: tuple[int, ...], arguments: list[Any],
            dtypes: list[np.dtype[Any]], count: int) -> None:
    """Launch a generated kernel on its arrays and numbers."""
    arrays = [argument for argument in arguments if isinstance(argument, ndarray)]
    contents = [array.content for array in arrays]          # alive as long as the launch can be repeated
    images = [generated.image(argument, dtype) for argument, dtype in zip(arguments, dtypes, strict=True)]

    def work(_: Any = contents) -> None:
        kernel.launch(grid, block, [*images, generated.count_image(count)])

    device.submit(kernel.name, work, [array.memory for array in arrays], check=True)

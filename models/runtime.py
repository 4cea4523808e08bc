"""What computes a network: OpenVINO or torch, in which precision, behind one call.

Pixels go in as ``uint8 (n, px, px, 3)``; the normalisation is part of the compiled graph.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import sysconfig
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor, nn

PixelFunction = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
_STREAMS = 2
PRECISIONS = ("auto", "float32", "bfloat16")


@dataclass(frozen=True)
class Runtime:
    """What will compute the networks on this machine.

    Attributes
    ----------
    name : str
        ``"openvino"`` or ``"torch"``.
    device : str
        ``"cpu"`` or ``"cuda"``.
    native_bfloat16 : bool
        Whether bfloat16 is computed by the hardware; emulated, it is many times slower than
        float32.
    """

    name: str
    device: str
    native_bfloat16: bool

    def __str__(self) -> str:
        return f"{self.name} on {self.device}"


def choose_runtime() -> Runtime:
    """Choose what computes the networks here: a GPU if there is one, else OpenVINO, else torch."""
    import torch

    if torch.cuda.is_available():
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return Runtime("torch", "cuda", native)
    if importlib.util.find_spec("openvino") is not None:
        capabilities = _openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        return Runtime("openvino", "cpu", "BF16" in capabilities)
    has = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return Runtime("torch", "cpu", bool(has()))


def resolve_precision(precision: str) -> str:
    """``"auto"`` as this machine computes it fastest: bfloat16 where it is native, else float32.

    Raises
    ------
    InputError
        The name is none of ``auto``, ``float32``, ``bfloat16``.
    """
    if precision not in PRECISIONS:
        raise InputError(f"precision {precision!r}; expected one of {', '.join(PRECISIONS)}.")
    if precision != "auto":
        return precision
    return "bfloat16" if choose_runtime().native_bfloat16 else "float32"


def require_precision(precision: str, runtime: Runtime) -> None:
    """Refuse to compute in a precision that this machine would emulate.

    Raises
    ------
    InputError
        bfloat16 is asked for and is not native here.
    """
    if precision == "bfloat16" and not runtime.native_bfloat16:
        raise InputError(
            f"these features are computed in bfloat16, which {runtime} does not have natively "
            'here. Run on a machine that has it, or set precision = "float32" for the encoder, '
            "which makes another model version."
        )


def compile_network(
    module: nn.Module,
    *,
    input_px: int,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    precision: str,
    runtime: Runtime,
    n_threads: int | None = None,
) -> PixelFunction:
    """Compile a filled network for pixels.

    Parameters
    ----------
    module : nn.Module
        Takes normalised images ``(n, 3, px, px)``; in evaluation mode.
    input_px : int
        Side of the images, in pixels.
    mean, std : tuple of float
        Normalisation, on a 0-1 scale.
    precision : str
        ``"float32"`` or ``"bfloat16"``.
    runtime : Runtime
        As :func:`choose_runtime` gives it.
    n_threads : int, optional
        Threads on a CPU; every core if absent.

    Returns
    -------
    callable
        ``uint8 (n, px, px, 3)`` to ``float32 (n, …)``. An image's result does not depend on
        the images beside it beyond float rounding.

    Raises
    ------
    InputError
        The precision is not native here.
    """
    require_precision(precision, runtime)
    whole = with_normalisation(module, mean, std)
    if runtime.name == "openvino":
        return _compile_openvino(whole, input_px, precision, n_threads)
    return _compile_torch(whole, precision, runtime.device)


def with_normalisation(
    module: nn.Module, mean: tuple[float, float, float], std: tuple[float, float, float]
) -> nn.Module:
    """Put the normalisation before a network, so that it takes ``uint8 (n, px, px, 3)``."""
    import torch

    class FromPixels(torch.nn.Module):
        """From uint8 (n, h, w, 3) to whatever the network gives."""

        scale: Tensor
        shift: Tensor

        def __init__(self) -> None:
            super().__init__()
            deviation = torch.tensor(std).view(1, 3, 1, 1)
            self.register_buffer("scale", 1 / (255 * deviation))
            self.register_buffer("shift", -torch.tensor(mean).view(1, 3, 1, 1) / deviation)
            self.network = module

        def forward(self, pixels: Tensor) -> Tensor:
            images = pixels.permute(0, 3, 1, 2).to(torch.float32)
            result: Tensor = self.network(images * self.scale + self.shift)
            return result

    return FromPixels().eval()


def _compile_openvino(
    whole: nn.Module, input_px: int, precision: str, n_threads: int | None
) -> PixelFunction:
    import torch

    ov = _openvino()
    example = torch.zeros((2, input_px, input_px, 3), dtype=torch.uint8)
    with warnings.catch_warnings():
        # OpenVINO traces with torch.jit, which torch has begun to call deprecated.
        warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.jit")
        warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"torch\.jit")
        model = ov.convert_model(whole, example_input=example)
    model.reshape({model.inputs[0]: [-1, input_px, input_px, 3]})
    # Each stream computes a part of the batch on its share of the threads: threads of one batch
    # wait for the slowest of them in every layer, which costs a lot where cores are shared.
    n_streams = min(_STREAMS, n_threads or os.cpu_count() or 1)
    config: dict[str, Any] = {
        "NUM_STREAMS": n_streams,
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bfloat16" else "f32",
    }
    if n_threads is not None:
        config["INFERENCE_NUM_THREADS"] = n_threads
    compiled = ov.Core().compile_model(model, "CPU", config)
    requests = [compiled.create_infer_request() for _ in range(n_streams)]

    def run(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        parts = np.array_split(np.ascontiguousarray(pixels), min(n_streams, len(pixels)))
        started = list(zip(requests, parts, strict=False))
        for request, part in started:
            request.start_async([part], share_inputs=True)
        for request, _ in started:
            request.wait()
        results = [request.get_output_tensor(0).data for request, _ in started]
        return np.concatenate(results, dtype=np.float32)

    return run


def _compile_torch(
    whole: nn.Module, precision: str, device: str, *, backend: str | None = None
) -> PixelFunction:
    """On a GPU compiled if possible; two threads may call it, so that copies go on beside."""
    import torch

    on_gpu = device == "cuda"
    network: Any = whole.to(torch.device(device)).to(memory_format=torch.channels_last)
    if backend is None and on_gpu and _can_compile():
        backend = "inductor"
    if backend is not None:
        network = torch.compile(network, backend=backend)
    streams = threading.local()
    launching = threading.Lock()

    def run(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        tensor = torch.from_numpy(np.ascontiguousarray(pixels))
        with torch.inference_mode(), _own_stream(streams) if on_gpu else nullcontext():
            if on_gpu:
                tensor = tensor.pin_memory().to(device, non_blocking=True)
            # Numerics are switched for the whole process, and compiling is not for two.
            with launching, exact_float32(), autocast(precision, device):
                result = network(tensor).float()
            features: NDArray[np.float32] = result.cpu().numpy()
        return features

    return run


def _own_stream(streams: threading.local) -> Any:
    """The calling thread's stream: only what it has launched itself is waited for."""
    import torch

    if not hasattr(streams, "mine"):
        streams.mine = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    return torch.cuda.stream(streams.mine)


def _can_compile() -> bool:
    """Whether there is what Triton builds its kernels with."""
    header = Path(sysconfig.get_path("include"), "Python.h")
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
    return bool(importlib.util.find_spec("triton") and compiler and header.is_file())


@contextmanager
def exact_float32() -> Iterator[None]:
    """No TF32, no choice of algorithm by timing: the same numbers in every run."""
    import torch

    with torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=False
    ):
        yield


@contextmanager
def autocast(precision: str, device: str) -> Iterator[None]:
    """Compute in bfloat16 where the precision says so."""
    import torch

    with torch.autocast(device, dtype=torch.bfloat16, enabled=precision == "bfloat16"):
        yield


def _openvino() -> Any:
    """Import OpenVINO without its telemetry, which would write to the home folder and the net."""
    if "openvino" not in sys.modules:
        # OpenVINO falls back on a telemetry that does nothing where the package is missing.
        present = {n: m for n, m in sys.modules.items() if n.startswith("openvino_telemetry")}
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
        try:
            import openvino
            import openvino.tools.ovc  # noqa: F401
        finally:
            del sys.modules["openvino_telemetry"]
            sys.modules.update(present)
    return sys.modules["openvino"]

"""The few calls of NVIDIA's driver that running an engine takes, by ctypes: neither torch nor CUDA's toolkit is needed.

All of it acts in the primary context of the first GPU, which other libraries of this process share.
"""

from __future__ import annotations

import ctypes
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from specs.errors import Stalled

LIBRARY = "libcuda.so.1"
_VERSION = Path("/proc/driver/nvidia/version")
_MAJOR, _MINOR = 75, 76
"""Attributes of a device: its compute capability."""


class CudaFailure(RuntimeError):
    """A call of the driver failed."""


class Cuda:
    """The first GPU. Addresses and streams are plain numbers; sizes are in bytes."""

    def __init__(self, library: str = LIBRARY) -> None:
        """Stalled ``LoadFailed`` where there is no driver, or no GPU."""
        try:
            self._driver = ctypes.CDLL(library)
            self._call("cuInit", ctypes.c_uint(0))
            self._device = ctypes.c_int()
            self._call("cuDeviceGet", ctypes.byref(self._device), ctypes.c_int(0))
            self._context = ctypes.c_void_p()
            self._call("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), self._device)
        except (OSError, CudaFailure) as error:
            raise Stalled("LoadFailed", f"there is no GPU here that NVIDIA's driver can use: {error}") from error

    def facts(self) -> dict[str, str]:
        """Give the GPU's name, its compute capability, the CUDA version of the driver, and the driver's own."""
        name = ctypes.create_string_buffer(256)
        self._call("cuDeviceGetName", name, ctypes.c_int(len(name)), self._device)
        cuda = ctypes.c_int()
        self._call("cuDriverGetVersion", ctypes.byref(cuda))
        capability = f"{self._attribute(_MAJOR)}.{self._attribute(_MINOR)}"
        facts = {"gpu": name.value.decode(errors="replace"), "computeCapability": capability}
        return facts | {"cuda": f"{cuda.value // 1000}.{cuda.value % 1000 // 10}"} | _driver_version()

    def enter(self) -> None:
        """Make the GPU this thread's own; needed before anything else in it."""
        self._call("cuCtxSetCurrent", self._context)

    def allocate(self, size: int) -> int:
        """Give memory of the GPU."""
        return self._address("cuMemAlloc_v2", size)

    def free(self, address: int) -> None:
        """Give it back."""
        self._call("cuMemFree_v2", ctypes.c_void_p(address))

    def allocate_pinned(self, size: int) -> int:
        """Give memory of the machine that the GPU can reach by itself."""
        return self._address("cuMemAllocHost_v2", size)

    def free_pinned(self, address: int) -> None:
        """Give it back."""
        self._call("cuMemFreeHost", ctypes.c_void_p(address))

    def stream(self) -> int:
        """Give a queue of work."""
        stream = ctypes.c_void_p()
        self._call("cuStreamCreate", ctypes.byref(stream), ctypes.c_uint(1))
        return int(stream.value or 0)

    def destroy(self, stream: int) -> None:
        """Give a queue of work back."""
        self._call("cuStreamDestroy_v2", ctypes.c_void_p(stream))

    def upload(self, device: int, host: int, size: int, stream: int) -> None:
        """Queue a copy to the GPU."""
        self._copy("cuMemcpyHtoDAsync_v2", device, host, size, stream)

    def download(self, host: int, device: int, size: int, stream: int) -> None:
        """Queue a copy from the GPU."""
        self._copy("cuMemcpyDtoHAsync_v2", host, device, size, stream)

    def wait(self, stream: int) -> None:
        """Come back when all of a queue's work is done."""
        self._call("cuStreamSynchronize", ctypes.c_void_p(stream))

    def _address(self, function: str, size: int) -> int:
        address = ctypes.c_void_p()
        self._call(function, ctypes.byref(address), ctypes.c_size_t(max(size, 1)))
        return int(address.value or 0)

    def _copy(self, function: str, to: int, source: int, size: int, stream: int) -> None:
        places = ctypes.c_void_p(to), ctypes.c_void_p(source)
        self._call(function, *places, ctypes.c_size_t(size), ctypes.c_void_p(stream))

    def _attribute(self, number: int) -> int:
        value = ctypes.c_int()
        self._call("cuDeviceGetAttribute", ctypes.byref(value), ctypes.c_int(number), self._device)
        return value.value

    def _call(self, function: str, *arguments: Any) -> None:
        result = int(getattr(self._driver, function)(*arguments))
        if result:
            raise CudaFailure(f"{function} gives {result}")


def _driver_version() -> dict[str, str]:
    with suppress(OSError):
        found = re.search(r"Module\s+(\d[\d.]*)", _VERSION.read_text(encoding="utf-8", errors="replace"))
        return {"driver": found[1]} if found else {}
    return {}

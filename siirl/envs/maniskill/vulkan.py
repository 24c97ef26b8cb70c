"""What Vulkan finds to draw with on this machine, asked of its loader.

Run as a program, so that a driver that crashes takes nothing with it: prints the devices as JSON, a list of
``{"name": str, "cpu": bool, "api": [major, minor]}``, or exits with 1 when there is no loader.
"""

import ctypes
import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

INSTANCE_INFO = 1
"""VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO"""
CPU = 4
"""VK_PHYSICAL_DEVICE_TYPE_CPU"""
PROPERTIES_BYTES = 4096
"""More than a VkPhysicalDeviceProperties takes."""
MOST_DEVICES = 64
PATIENCE = 60


@dataclass(frozen=True)
class Device:
    """Something that Vulkan can draw with; ``cpu``: a software renderer."""

    name: str
    cpu: bool
    api: tuple[int, int]


class InstanceInfo(ctypes.Structure):
    """VkInstanceCreateInfo without layers and extensions."""

    _fields_ = (
        ("type", ctypes.c_uint32),
        ("next", ctypes.c_void_p),
        ("flags", ctypes.c_uint32),
        ("application", ctypes.c_void_p),
        ("layer_count", ctypes.c_uint32),
        ("layers", ctypes.c_void_p),
        ("extension_count", ctypes.c_uint32),
        ("extensions", ctypes.c_void_p),
    )


def find_devices() -> list[Device]:
    """The devices of this machine; none without drivers, or when these fail."""
    done = subprocess.run(
        [sys.executable, "-I", __file__], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    if done.returncode != 0:
        return []
    return [Device(found["name"], found["cpu"], tuple(found["api"])) for found in json.loads(done.stdout)]


def ask_loader() -> list[dict[str, object]]:
    """Enumerate the devices in this process.

    Raises:
        OSError: no Vulkan loader is installed.
    """
    vulkan = ctypes.CDLL(_loader())
    instance, count = ctypes.c_void_p(), ctypes.c_uint32(MOST_DEVICES)
    info = InstanceInfo(type=INSTANCE_INFO)
    if vulkan.vkCreateInstance(ctypes.byref(info), None, ctypes.byref(instance)) != 0:
        return []  # a loader without a driver
    handles = (ctypes.c_void_p * MOST_DEVICES)()
    if vulkan.vkEnumeratePhysicalDevices(instance, ctypes.byref(count), handles) != 0:
        return []
    return [_properties(vulkan, handle) for handle in handles[: count.value] if handle is not None]


def _loader() -> str:
    """The system's Vulkan loader, else the one that SAPIEN brings, in the order in which SAPIEN itself looks."""
    folders = [*os.environ.get("LD_LIBRARY_PATH", "").split(":"), "/usr/lib", "/usr/lib64", "/usr/lib/x86_64-linux-gnu"]
    if any(folder and (Path(folder) / "libvulkan.so.1").is_file() for folder in folders):
        return "libvulkan.so.1"
    sapien = importlib.util.find_spec("sapien")
    if sapien is not None and sapien.origin is not None:
        for library in sorted(Path(sapien.origin).parent.glob("vulkan_library/libvulkan.so.*")):
            return str(library)
    return "libvulkan.so.1"


def _properties(vulkan: ctypes.CDLL, handle: int) -> dict[str, object]:
    """The first fields of a VkPhysicalDeviceProperties: apiVersion, driverVersion, vendorID, deviceID, deviceType, deviceName."""
    raw = ctypes.create_string_buffer(PROPERTIES_BYTES)
    vulkan.vkGetPhysicalDeviceProperties(ctypes.c_void_p(handle), raw)
    api, _, _, _, kind = (ctypes.c_uint32 * 5).from_buffer(raw)
    name = raw.raw[20:276].split(b"\0")[0].decode(errors="replace")
    return {"name": name, "cpu": kind == CPU, "api": [api >> 22 & 0x7F, api >> 12 & 0x3FF]}


if __name__ == "__main__":
    try:
        print(json.dumps(ask_loader()))
    except OSError as error:
        sys.exit(str(error))

"""What TensorBoard shows of a training: one event file, written when the training is over.

The curves are those that Ultralytics writes to ``results.csv``, under the names and steps that its own TensorBoard
callback gives them; the pictures are those that it draws; the graph is the layers as its model definitions wire them.
The callback itself traces the whole network instead, which takes longer than an epoch of a small data set, twice as
long where the first way fails, as it does for every detector; and it writes while others train.

Nothing is left of an attempt that was killed: what there is to see is whole, and of the run that the record is about.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from specs.records import EVENT_FILE, Epoch
from workloads.crc32c import crc32c

__all__ = ["EVENT_FILE", "event_file"]

MAX_BYTES = 2 * 2**20
"""Of a picture; larger ones stay behind."""
_MAX_PICTURES = 40
_SPACES = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}
"""Modes of Pillow to TensorFlow's numbers for colour spaces."""


def event_file(epochs: Sequence[tuple[Epoch, float]], folder: Path, network: Any, started: float) -> bytes | None:
    """Give the event file of a training, or None, with a line in the log, where TensorBoard's messages are not there.

    ``epochs``: each with the seconds from ``started`` (Unix time) to its end. ``folder``: where Ultralytics drew.
    ``network``: the torch module that was trained.
    """
    try:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.graph_pb2 import GraphDef
    except (ImportError, TypeError) as error:  # TypeError: messages that the installed protobuf does not take
        sys.stderr.write(f"no events for TensorBoard: {error}; install tensorboard beside the trainer\n")
        return None
    ended = started + max((seconds for _, seconds in epochs), default=0.0)
    events = [Event(wall_time=started, file_version="brain.Event:2")]
    layers = graph(network, GraphDef)
    if layers is not None:
        events.append(Event(wall_time=started, graph_def=layers.SerializeToString()))
    for epoch, seconds in epochs:
        event = Event(wall_time=started + seconds, step=epoch.epoch)
        for tag, number in sorted(epoch.metrics.items()):
            event.summary.value.add(tag=tag, simple_value=number)
        events.append(event)
    events += _pictures(folder, lambda: Event(wall_time=ended, step=max((e.epoch for e, _ in epochs), default=0)))
    return b"".join(_framed(event.SerializeToString()) for event in events)


def graph(network: Any, make: Callable[[], Any]) -> Any:
    """Give the layers as a GraphDef that ``make`` makes, or None for a network that no model definition describes."""
    layers = getattr(getattr(network, "module", network), "model", ())
    if not layers or not all(hasattr(layer, name) for layer in layers for name in ("i", "f", "type")):
        return None
    found = make()
    found.node.add(name="images", op="Placeholder")
    names = ["images"]
    for layer in layers:
        kind = str(layer.type).rpartition(".")[2]
        sources = layer.f if isinstance(layer.f, (list, tuple)) else [layer.f]
        # -1 is the layer before, which for the first one is the input; numbers from 0 are layers.
        inputs = [names[source if source < 0 else source + 1] for source in sources]
        node = found.node.add(name=f"network/{layer.i:02}_{kind}", op=kind, input=inputs)
        node.attr["parameters"].i = int(getattr(layer, "np", 0))
        names.append(node.name)
    return found


def _pictures(folder: Path, make: Callable[[], Any]) -> Iterable[Any]:
    """One event for each picture, encoded as it is: TensorBoard shows JPEG and PNG."""
    from PIL import Image

    drawn = sorted(path for path in folder.iterdir() if path.suffix in (".jpg", ".png"))
    for path in [path for path in drawn if 0 < path.stat().st_size < MAX_BYTES][:_MAX_PICTURES]:
        with Image.open(path) as picture:
            (width, height), space = picture.size, _SPACES.get(picture.mode, 3)
        event = make()
        image = event.summary.value.add(tag=f"pictures/{path.stem}").image
        image.width, image.height, image.colorspace = width, height, space
        image.encoded_image_string = path.read_bytes()
        yield event


def _framed(record: bytes) -> bytes:
    """Put a record into TensorFlow's framing: length, its checksum, the record, its checksum."""
    length = struct.pack("<Q", len(record))
    return length + _masked(length) + record + _masked(record)


def _masked(data: bytes) -> bytes:
    """Give a checksum as the format wants it, so that a checksum of checksums still tells something."""
    crc = crc32c(data)
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)

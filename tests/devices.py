"""A device without TensorFlow that takes the time of one: by itself, as a GPU does, while its caller goes on."""

import threading
import time

import numpy as np

from mammoscan.model.batchsize import BatchSizes
from mammoscan.model.classify import named_kinds
from mammoscan.model.terms import GRADES, KINDS, TISSUES


class TimedDevice:
    """Takes ``fixed`` seconds a batch and ``each`` a crop of its size, filled or not; says what follows from a crop.

    batches: (crops that were given, crops that were computed) of every batch. begun, ended: when each was, by
    ``time.perf_counter``. fails_at: the number of the batch that fails.
    """

    def __init__(self, size, *, fixed=0.0, each=0.0, most=0, fails_at=-1):
        self.sizes = BatchSizes(size, most or size, given=0 if most else size)
        self.fixed, self.each, self.fails_at = fixed, each, fails_at
        self.batches, self.begun, self.ended = [], [], []
        self.thread = None

    def step(self, crops, clinical):
        assert len(crops) == len(clinical)
        assert self.thread in (None, threading.get_ident()), "TensorFlow's own state is that of a thread"
        self.thread = threading.get_ident()
        if len(self.batches) == self.fails_at:
            raise MemoryError("no memory left on the device")
        size = self.sizes.fitting(len(crops))
        self.batches.append((len(crops), size))
        self.begun.append(max([time.perf_counter(), *self.ended[-1:]]))
        self.ended.append(self.begun[-1] + self.fixed + self.each * size)
        return _Promise(self.ended[-1], crops, clinical)

    def probe(self, count):
        time.sleep(self.fixed + self.each * count)
        crops = np.resize(np.arange(self.sizes.reference * 4, dtype=np.uint8), (self.sizes.reference, 2, 2))
        return said_of(np.resize(crops, (count, 2, 2)), np.zeros((count, 1), np.float32))

    def kinds(self, said):
        return named_kinds(said)

    @property
    def idle(self):
        """The share of the time from the first batch to the last in which it computed none."""
        busy = sum(end - begin for begin, end in zip(self.begun, self.ended, strict=True))
        return 1 - busy / (self.ended[-1] - self.begun[0])

    @property
    def fill(self):
        """Crops that were given over crops that were computed."""
        given, computed = map(sum, zip(*self.batches, strict=True))
        return given / computed


class _Promise:
    def __init__(self, at, crops, clinical):
        self.at, self.crops, self.clinical = at, crops, clinical

    def outputs(self):
        time.sleep(max(0.0, self.at - time.perf_counter()))
        return said_of(self.crops, self.clinical)


def said_of(crops, clinical):
    """Outputs by name as those of the network, each row a function of its crop and its clinical inputs alone."""
    flat = crops.reshape(len(crops), -1).astype(np.float32)
    seen = np.stack([flat[:, 0], flat[:, -1], flat[:, 1], clinical[:, 0]], axis=1) / 64 - 1.5
    heads = {"lesion_logits": 2, "pathology_logits": 2, "kind_logits": len(KINDS), "grade_logits": len(GRADES),
             "tissue_logits": len(TISSUES)}  # fmt: skip
    said = {name: np.roll(seen, number, axis=1)[:, :size] for number, (name, size) in enumerate(heads.items())}
    return {**said, "logits": seen[:, :3], "evidence": flat[:, :4].reshape(-1, 2, 2) - 100}

"""Writing six objects for a four-view study against analysing it: ``python -m tests.benchmarks.objects``.

Four images of 4096 x 3328 are analysed one after the other in this process (decoding to crops, without the
network, whose time only makes the analysis longer), then all kinds of objects are rendered, each with three
findings an image; each kind counts by the median of several times, since one is short against what else a machine
does. The ratio is the figure; the bar is a tenth.
"""

from __future__ import annotations

import dataclasses
import statistics
import tempfile
import time
from pathlib import Path

from mammoscan.archive import discover
from mammoscan.core.config import AnalysisConfig
from mammoscan.core.domain import Analysed, Header
from mammoscan.image.analyse import analyse
from mammoscan.model import bundle
from mammoscan.report import gsps, pdf, pdf_dicom, sc, seg, sr_cad, sr_tid1500
from mammoscan.run.publish import _displays
from tests import headers
from tests.benchmarks.generate import write_benchmark_archive
from tests.report import results

BAR = 0.1
TIMES = 5


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        archive = Path(temporary)
        write_benchmark_archive(archive, studies=1, seed=1)
        files = list(discover.walk(archive, out=None))
        predictions = []
        analysing = 0.0
        for header in headers.read(files):
            assert isinstance(header, Header), header
            began = time.perf_counter()
            analysed = analyse(header, AnalysisConfig(), bundle.load(None).crop)
            analysing += time.perf_counter() - began
            assert isinstance(analysed, Analysed), analysed
            found = [
                dataclasses.replace(results.finding(header, n, 0.9), region=region)
                for n, region in enumerate(analysed.regions[:3], 1)
            ]
            predictions.append(dataclasses.replace(results.prediction(header, found), preview=analysed.preview))
        first = predictions[0].header
        result = results.study(predictions, patient=first.patient, facts=first.study)
        report = pdf.render(result, results.CONTEXT)  # of every run, whatever is written; its object is counted
        kinds = {
            "cad-sr": lambda: sr_cad.render(result, results.CONTEXT),
            "tid1500": lambda: sr_tid1500.render(result, results.CONTEXT),
            "tid1500-below": lambda: sr_tid1500.render_below(result, results.CONTEXT),
            "pdf": lambda: pdf_dicom.render(result, results.CONTEXT, report),
            "gsps": lambda: gsps.render(result, results.CONTEXT, _displays(result)),
            "seg": lambda: seg.render(result, results.CONTEXT),
            "sc": lambda: sc.render(result, results.CONTEXT),
        }
        writing = 0.0
        for name, render in kinds.items():
            render()  # first use loads code tables once a process
            times = []
            for _ in range(TIMES):
                began = time.perf_counter()
                render()
                times.append(time.perf_counter() - began)
            seconds = statistics.median(times)
            writing += seconds
            print(f"{name}: {seconds:.3f} s")
        print(f"analysing {len(predictions)} images: {analysing:.2f} s; writing six kinds: {writing:.3f} s")
        print(f"ratio: {writing / analysing:.3f} (bar {BAR})")


if __name__ == "__main__":
    main()

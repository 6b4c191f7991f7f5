"""A real Dask scheduler and its workers, in processes of their own."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
HOOKS = Path(__file__).parent / "hooks"
WAIT = 120.0  # seconds, on a busy machine


class Cluster:
    """Started on loopback, or on an address of a network that ``inside`` brings its processes into.

    hooks: environment of the workers, see ``hooks/sitecustomize.py``. inside: a command that runs another one.
    options: of scheduler and workers. protocol: of the scheduler.
    """

    def __init__(
        self, folder, *, workers=2, host="127.0.0.1", hooks=None, inside=(), inside_workers=(), options=(), protocol=()
    ):
        self.folder, self.hooks, self.inside_workers, self.options = folder, hooks or {}, inside_workers, options
        folder.mkdir(parents=True, exist_ok=True)
        self.processes = []
        self.workers = []
        file = folder / "scheduler.json"
        command = ["scheduler", "--host", host, "--port", "0", "--no-dashboard", "--scheduler-file", str(file)]
        command += [*protocol, *options]
        self.scheduler = self._start([*inside, *_DASK, *command], "scheduler")
        until(file.exists)
        until(lambda: file.read_text().rstrip().endswith("}"))
        self.address = json.loads(file.read_text())["address"]
        for _ in range(workers):
            self.add_worker()
        self.wait_for(workers)

    def add_worker(self, *options, inside=None, **hooks):
        """One more worker; it is there when ``wait_for`` says so. inside: see above, for this one."""
        name = f"worker-{len(self.workers)}"
        options = [
            "--no-nanny",
            "--no-dashboard",
            "--memory-limit",
            "0",
            *(options or ("--nthreads", "1")),
            *self.options,
        ]
        place = ["--name", name, "--local-directory", str(self.folder / name)]
        command = [*(inside or self.inside_workers), *_DASK, "worker", self.address, *options, *place]
        self.workers.append(self._start(command, name, **{**self.hooks, **hooks}))
        return self.workers[-1]

    def wait_for(self, workers):
        """Until so many workers have joined since the beginning."""
        log = self.folder / "scheduler.log"
        until(lambda: log.read_text().count("Register worker") >= workers)

    def _start(self, command, name, **hooks):
        environment = {
            **os.environ, "PYTHONPATH": f"{HOOKS}{os.pathsep}{ROOT}", **hooks,
            "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "5s",
        }  # fmt: skip
        with (self.folder / f"{name}.log").open("w") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
        self.processes.append(process)
        return process

    def kill(self, process):
        """As a machine dies."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def close(self):
        for process in self.processes:
            self.kill(process)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


_DASK = (sys.executable, "-m", "dask")


def until(true, *, seconds=WAIT):
    """Wait for something to become true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)

"""On other machines as on this one: the same bytes, whatever dies on the way."""

import asyncio
import gc
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path, PurePosixPath

import pytest

from mammoscan.core.errors import ExitCode, MachineError, UsageError
from mammoscan.model import bundle as bundles
from mammoscan.run import cluster, remote, score, work
from mammoscan.run.config import ClusterConfig
from mammoscan.run.pool import Crashed, Task
from mammoscan.run.tasks import ModelRef
from tests import clinical, small
from tests.clusters import ROOT, Cluster, until
from tests.devices import TimedDevice
from tests.storms import bars

pytest.importorskip("distributed", reason="needs the extra mammoscan[cluster]")

STUB = {"HOOK_STUB": "1"}
CREATED = ("20250101", "120000")
VICTIM = small.image(small.ANNA, view=small.View.MLO, seed=2).SOPInstanceUID


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    return small.archive(tmp_path_factory.mktemp("archive") / "archive")


@pytest.fixture(scope="module")
def stubbed(tmp_path_factory):
    """Two workers whose network is a stub."""
    with Cluster(tmp_path_factory.mktemp("stubbed"), hooks=STUB) as started:
        yield started


@pytest.fixture(autouse=True)
def _the_clock_stands(monkeypatch):
    monkeypatch.setattr(work, "now", lambda _days=0: CREATED)


@pytest.fixture
def stub(monkeypatch):
    """This process's network is a stub, too."""
    monkeypatch.setattr(score, "Classifier", lambda *_, **__: TimedDevice(16))


@pytest.fixture(scope="module")
def here(archive, tmp_path_factory):
    """Results of a run on this machine, by a stub."""
    out = tmp_path_factory.mktemp("here") / "here"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(work, "now", lambda _days=0: CREATED)
        patch.setattr(score, "Classifier", lambda *_, **__: TimedDevice(16))
        small.run(archive, out)
    return out


def _there(started, *paths, **options):
    return {"cluster": ClusterConfig(started.address, tuple(paths)), **options}


def _bytes(out):
    """Every result by its path; times of a run stand in run.json alone."""
    files = [*out.glob("*.csv"), *(path for path in (out / "studies").rglob("*") if path.is_file())]
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in files}


def _same(out, expected):
    one, other = _bytes(out), _bytes(expected)
    assert len(one) > 10
    assert sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name)) == []
    assert bars.half_written(out) == []
    assert not (out / ".previews").exists()


# --------------------------------------------------------------------------- whole runs


def test_results_are_those_of_a_run_on_this_machine_to_the_last_byte(archive, tmp_path):
    with Cluster(tmp_path / "cluster") as started:
        small.run(archive, tmp_path / "there", **_there(started))
    small.run(archive, tmp_path / "here")
    _same(tmp_path / "there", tmp_path / "here")
    assert bars.differences(tmp_path / "there", tmp_path / "here", leaving_out=frozenset({bars.WRITTEN_AT})) == []


def test_the_parent_loads_no_tensorflow_and_names_no_machine(archive, tmp_path, stubbed):
    code = (
        "import sys; from tests import small; from mammoscan.run.config import ClusterConfig\n"
        f"small.run({str(archive)!r}, {str(tmp_path / 'out')!r}, cluster=ClusterConfig({stubbed.address!r}))\n"
        "assert 'distributed' in sys.modules and 'tensorflow' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=300)
    assert "tcp://" not in (tmp_path / "out" / "run.json").read_text()


def test_dask_is_not_imported_without_a_cluster():
    code = "import sys, mammoscan.run.pipeline, mammoscan.cli.run; assert 'distributed' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_pseudonyms_are_the_same_from_a_cluster(archive, tmp_path, stub, stubbed):
    key = tmp_path / "key"
    small.run(archive, tmp_path / "here", deidentify=key)
    small.run(archive, tmp_path / "there", **_there(stubbed, deidentify=key))
    _same(tmp_path / "there", tmp_path / "here")


@pytest.mark.parametrize("masked", [False, True], ids=["named", "pseudonyms"])
def test_clinical_data_reach_the_reports_from_a_cluster(archive, tmp_path, stub, stubbed, masked):
    table = tmp_path / "clinical.csv"
    table.write_text("patient_id,clinical_bmi,clinical_hormones\nANNA-1,30,now\nBERTA-2,,never\n")
    options = {"model": clinical.model(tmp_path / "model"), "clinical_csv": table}
    options |= {"deidentify": tmp_path / "key"} if masked else {}
    small.run(archive, tmp_path / "here", **options)
    small.run(archive, tmp_path / "there", **_there(stubbed, **options))
    _same(tmp_path / "there", tmp_path / "here")
    told = {row["clinical"] for row in small.table(tmp_path / "there", "studies")}
    assert ("clinical_bmi=30;clinical_hormones=now" in told) is not masked


def test_twins_are_compared_there(archive, tmp_path, stub, stubbed):
    twins = shutil.copytree(archive, tmp_path / "twins")
    shutil.copy(twins / "anna-cc.dcm", twins / "again.dcm")
    small.run(twins, tmp_path / "here")
    small.run(twins, tmp_path / "there", **_there(stubbed))
    _same(tmp_path / "there", tmp_path / "here")
    assert "duplicate" in [row["code"] for row in small.table(tmp_path / "there", "files")]


def test_folders_may_have_other_paths_there(archive, tmp_path, here, stubbed):
    out = tmp_path / "out"
    (tmp_path / "seen").mkdir()
    (tmp_path / "seen" / "images").symlink_to(archive)
    (tmp_path / "seen" / "results").symlink_to(out)
    seen = PurePosixPath(tmp_path / "seen")
    small.run(archive, out, **_there(stubbed, (archive, seen / "images"), (out, seen / "results")))
    _same(out, here)


def test_a_worker_that_does_not_see_a_folder_is_named_before_any_work(archive, tmp_path, stubbed):
    (tmp_path / "not-mounted").mkdir()
    for folder in ("nowhere", "not-mounted"):
        paths = (archive, PurePosixPath(tmp_path / folder))
        with pytest.raises(UsageError, match=r"the worker tcp://\S+ does not see the archive"):
            small.run(archive, tmp_path / "out", **_there(stubbed, paths))
    assert not (tmp_path / "out" / "files.csv").exists()


def test_a_worker_that_dies_costs_a_retry(archive, tmp_path, here):
    mark = tmp_path / "mark"
    hooks = {**STUB, "HOOK_SLOW": VICTIM, "HOOK_MARK": str(mark)}
    with Cluster(tmp_path / "cluster", hooks=hooks) as started:

        def kill_who_works():
            until(mark.exists)
            os.kill(int(mark.read_text()), signal.SIGKILL)

        killing = threading.Thread(target=kill_who_works)
        killing.start()
        small.run(archive, tmp_path / "there", **_there(started))
        killing.join()
        assert [worker.poll() for worker in started.workers].count(-signal.SIGKILL) == 1
    _same(tmp_path / "there", here)


def test_a_file_that_kills_workers_costs_itself_and_one_of_them(archive, tmp_path, here):
    with Cluster(tmp_path / "cluster", hooks={**STUB, "HOOK_KILLER": VICTIM}) as started:
        summary = small.run(archive, tmp_path / "there", **_there(started))
        assert sorted(worker.poll() or 0 for worker in started.workers) == [0, 77]
    assert (summary.analysed, summary.failed) == (2, 1)
    codes = {row["path"]: row["code"] for row in small.table(tmp_path / "there", "files")}
    assert codes == {"anna-cc.dcm": "", "anna-mlo.dcm": "decoder-crash", "berta-cc.dcm": ""}
    one, other = _bytes(tmp_path / "there"), _bytes(here)
    berta = [name for name in other if name.startswith(_folder(here, small.BERTA.patient_id))]
    assert berta
    assert [name for name in berta if one.get(name) != other[name]] == []


def _folder(out, patient):
    row = next(row for row in small.table(out, "studies") if row["patient_id"] == patient)
    return f"studies/{row['study_instance_uid']}"


def test_a_scheduler_that_goes_ends_the_run_which_is_continued_by_the_same_command(archive, tmp_path, here):
    mark, out = tmp_path / "mark", tmp_path / "there"
    hooks = {**STUB, "HOOK_SLOW": VICTIM, "HOOK_MARK": str(mark)}
    with Cluster(tmp_path / "cluster", hooks=hooks, workers=1) as started:
        arguments = bars.command(archive, out, "--cluster", started.address, "--quiet")

        def kill_the_scheduler():
            until(mark.exists)
            started.kill(started.scheduler)

        killing = threading.Thread(target=kill_the_scheduler)
        killing.start()
        done = bars.run(arguments, timeout=300)
        killing.join()
    assert done.status == ExitCode.USAGE, done.err
    assert bars.deaths(done) == []
    assert "the cluster's scheduler does not answer any more" in done.err
    assert "run the same command again" in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert bars.broken_after_a_kill(out) == []
    with Cluster(tmp_path / "again", hooks=STUB, workers=1) as started:
        small.run(archive, out, **_there(started))
    _same(out, here)


def test_an_interrupted_run_ends_at_once_and_is_continued(archive, tmp_path, here):
    mark, out = tmp_path / "mark", tmp_path / "there"
    with Cluster(tmp_path / "c", hooks={**STUB, "HOOK_SLOW": VICTIM, "HOOK_MARK": str(mark)}, workers=2) as started:
        arguments = bars.command(archive, out, "--cluster", started.address, "--quiet")
        process = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True)
        until(mark.exists)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
        assert process.returncode == ExitCode.INTERRUPTED, said
        os.kill(int(mark.read_text()), signal.SIGKILL)  # it would sleep for a minute, and be waited for
        small.run(archive, out, **_there(started))
    _same(out, here)


# --------------------------------------------------------------------------- what must fit


@pytest.mark.parametrize(
    ("options", "hooks", "said"),
    [
        ((), {"HOOK_VERSION": "0.0.9"}, r"tcp://\S+ has mammoscan 0\.0\.9, this machine has \d"),
        (("--nthreads", "2"), {}, r"tcp://\S+ runs 2 tasks at once in one process"),
    ],
    ids=["version", "threads"],
)
def test_a_worker_that_does_not_fit_is_named_before_any_work(options, hooks, said, archive, tmp_path):
    with Cluster(tmp_path / "cluster", workers=0) as started:
        started.add_worker(*options, **hooks)
        started.wait_for(1)
        with pytest.raises(UsageError, match=said):
            small.run(archive, tmp_path / "out", **_there(started))
    assert not (tmp_path / "out" / "files.csv").exists()


def test_another_model_there_is_named_with_both(archive, tmp_path, stubbed):
    place = bundles.load(None).weights_path.parent
    one, other = (shutil.copytree(place, tmp_path / name) for name in ("one", "other"))
    (other / "model.json").write_text((other / "model.json").read_text() + "\n")
    shas = [bundles.load(folder).identity.sha256[:12] for folder in (other, one)]
    said = rf"tcp://\S+ has another model \({shas[0]}\) than this machine \({shas[1]}\)"
    with pytest.raises(UsageError, match=said):
        small.run(archive, tmp_path / "out", **_there(stubbed, (one, PurePosixPath(other)), model=one))
    with pytest.raises(UsageError, match="cannot use the model"):
        small.run(archive, tmp_path / "out", **_there(stubbed, (one, PurePosixPath("/nowhere")), model=one))


def test_a_worker_that_joins_late_and_does_not_fit_ends_the_run_with_its_name(archive, tmp_path, stub):
    with Cluster(tmp_path / "cluster", workers=0) as started:
        console = _Console(lambda: started.add_worker("--nthreads", "2", **STUB))
        with pytest.raises(UsageError, match="runs 2 tasks at once"):
            small.run(archive, tmp_path / "out", console=console, **_there(started))
    assert any("waiting for one" in line for line in console.notes)


class _Console(small.Console):
    """Does something with the first note."""

    def __init__(self, act):
        super().__init__(quiet=True)
        self.notes, self._act = [], act

    def note(self, text):
        self.notes.append(text)
        if len(self.notes) == 1:
            self._act()


def test_no_scheduler_no_address_and_no_dask_are_said(archive, tmp_path, monkeypatch):
    def run(address):
        small.run(archive, tmp_path / "out", cluster=ClusterConfig(address))

    import dask

    with dask.config.set({"distributed.comm.timeouts.connect": "1s"}):
        with pytest.raises(MachineError, match="scheduler does not answer") as caught:
            run("tcp://127.0.0.1:9")
        assert "dask scheduler" in str(caught.value)
        for address in ("nonsense://x", "tcp://127.0.0.1"):
            with pytest.raises(UsageError, match="no address of a scheduler"):
                run(address)
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UsageError, match="not installed") as caught:
        run("tcp://127.0.0.1:9")
    assert "mammoscan[cluster]" in caught.value.remedy


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--cluster-path", "/a=/b"), "add --cluster"),
        (("--cluster", "tcp://x:1", "--cluster-path", "/a"), "HERE=THERE"),
        (("--cluster", "tcp://x:1", "--cluster-path", "/a=b"), "absolute path there"),
        (("--cluster", "tcp://x:1", "--cluster-cert", __file__), "add --cluster-ca"),
    ],
)
def test_options_that_do_not_fit_together_are_refused(options, said, archive, tmp_path):
    done = bars.run(bars.command(archive, tmp_path / "out", *options))
    assert done.status == ExitCode.USAGE
    assert said in " ".join(done.err.split())


# --------------------------------------------------------------------------- the pool alone


@pytest.fixture
def connected(stubbed, archive, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "something").touch()
    model = ModelRef(None, bundles.load(None).identity.sha256, 0.5)
    config = small.RunConfig(archive=archive, out=out, cluster=ClusterConfig(stubbed.address))
    made = cluster.Cluster(config, model, small.Console(quiet=True))
    yield made
    made.close()


def _square(number):
    return number * number


def _say(number):
    logging.getLogger("mammoscan.test").warning("said %d", number)
    return number


def _fail(_):
    raise ValueError("told to")


def _cannot_travel(_):
    error = ValueError("told to")
    error.held = threading.Lock()
    raise error


def _die(_):
    os._exit(3)


def _run(pool, feed, **options):
    return dict(item for item in pool.results(iter(feed), **options) if item is not None)


def test_a_refused_connection_does_not_hold_up_the_next_one(stubbed, archive, tmp_path, monkeypatch):
    """What is left of it is garbage, which the thread of the next one may collect as it begins."""
    import dask
    from distributed import utils

    def connect(address):
        model = ModelRef(None, bundles.load(None).identity.sha256, 0.5)
        config = small.RunConfig(archive=archive, out=tmp_path, cluster=ClusterConfig(address))
        return cluster.Cluster(config, model, small.Console(quiet=True))

    run_loop = utils.asyncio_run

    def collecting(*arguments, **options):
        gc.collect()
        return run_loop(*arguments, **options)

    (tmp_path / "something").touch()
    gc.disable()
    try:
        with dask.config.set({"distributed.comm.timeouts.connect": "1s"}), pytest.raises(UsageError):
            connect("nonsense://x")
        monkeypatch.setattr(utils, "asyncio_run", collecting)
        connect(stubbed.address).close()
    finally:
        gc.enable()


class _Heard(logging.Handler):
    """What is logged under a name, each line as often as it is said."""

    def __init__(self, name):
        super().__init__()
        self.lines = []
        self._logger = logging.getLogger(name)

    def emit(self, record):
        self.lines.append(record.getMessage())

    def __enter__(self):
        self._logger.addHandler(self)
        return self

    def __exit__(self, *_):
        self._logger.removeHandler(self)


def test_every_task_comes_back_once_and_what_it_said_is_in_the_log(connected):
    pool = connected.pool(3)
    assert _run(pool, [Task(n, _square, (n,)) for n in range(200)]) == {n: n * n for n in range(200)}
    with _Heard("mammoscan.test") as heard:
        assert _run(pool, [Task(n, _say, (n,)) for n in range(3)]) == {0: 0, 1: 1, 2: 2}
    assert sorted(heard.lines) == ["said 0", "said 1", "said 2"]


def test_no_more_than_the_bound_is_taken_from_the_feed(connected):
    taken = []

    def feed():
        for number in range(40):
            taken.append(number)
            yield Task(number, _square, (number,))

    consumed = 0
    for item in connected.pool(3).results(feed()):
        if item is not None:
            assert len(taken) - consumed <= 3 * 2
            consumed += 1
    assert consumed == 40


def test_work_added_on_the_way_is_done_before_the_end(connected):
    pool = connected.pool(2)
    seen = {}
    for item in pool.results(Task(n, _square, (n,)) for n in range(3)):
        if item is None:
            if "late" not in seen and len(seen) == 3:
                pool.add(Task("late", _square, (9,)))
            continue
        seen[item[0]] = item[1]
    assert seen == {0: 0, 1: 1, 2: 4, "late": 81}


def test_what_a_task_raises_is_raised_here(connected):
    with pytest.raises(ValueError, match="told to"):
        _run(connected.pool(2), [Task(0, _fail, (0,))])
    with pytest.raises(RuntimeError, match="a worker raised ValueError"):
        _run(connected.pool(2), [Task(0, _cannot_travel, (0,))])


def test_workers_that_join_are_given_work_and_those_that_die_are_not_waited_for(connected, stubbed):
    joined = stubbed.add_worker()
    pool, out, taken, most = connected.pool(3), {}, [], 0

    def feed():
        for n in range(400):
            taken.append(n)
            yield Task(n, _slowly, (n,))

    for item in pool.results(feed()):
        if item is not None:
            out[item[0]] = item[1]
            most = max(most, len(taken) - len(out))
            if len({pid for pid in out.values() if not isinstance(pid, Crashed)}) == 3 and joined.poll() is None:
                stubbed.kill(joined)
    assert most > 3 * 2
    assert set(out) == set(range(400))
    assert joined.pid in out.values()
    assert not [value for value in out.values() if isinstance(value, Crashed)]


def _slowly(_):
    threading.Event().wait(0.05)
    return os.getpid()


def test_tasks_that_kill_are_found_and_the_others_are_done(connected, stubbed):
    stubbed.add_worker()
    stubbed.add_worker()
    feed = [Task(n, _die if n == 5 else _square, (n,)) for n in range(40)]
    out = _run(connected.pool(3), feed)
    assert isinstance(out.pop(5), Crashed)
    assert out == {n: n * n for n in range(40) if n != 5}


def _die_with_the_worker(_):
    """As where a container's memory ends: whatever runs in it is killed."""
    if sys.argv[0] == "-c":  # in a process of its own, which the worker started
        os.kill(os.getppid(), signal.SIGKILL)
    os._exit(3)


@pytest.mark.slow
def test_a_task_with_which_three_workers_died_is_the_culprit_whatever_killed_them(connected, stubbed):
    joined = [stubbed.add_worker() for _ in range(3)]
    stubbed.wait_for(len(stubbed.workers))
    alive = [worker for worker in stubbed.workers if worker.poll() is None]
    assert joined[-1] in alive
    out = _run(connected.pool(1), [Task("bad", _die_with_the_worker, (0,)), Task("good", _square, (3,))])
    assert out == {"bad": Crashed(), "good": 9}
    until(lambda: sum(worker.poll() is not None for worker in alive) == 3)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """An authority, and a certificate of it for both sides."""
    folder = tmp_path_factory.mktemp("tls")

    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    new = ("-newkey", "rsa:2048", "-nodes")
    openssl("req", "-x509", *new, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=authority")
    openssl("req", *new, "-keyout", "own.key", "-out", "own.csr", "-subj", "/CN=own")
    signing = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2")
    openssl("x509", "-req", "-in", "own.csr", *signing, "-out", "own.pem")
    return folder


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make certificates")
def test_tls_keeps_strangers_out(archive, tmp_path, certificates, here):
    ca, own, key = (certificates / name for name in ("ca.pem", "own.pem", "own.key"))
    options = ("--tls-ca-file", str(ca), "--tls-cert", str(own), "--tls-key", str(key))
    with Cluster(tmp_path / "c", hooks=STUB, workers=1, options=options, protocol=("--protocol", "tls")) as started:
        assert started.address.startswith("tls://")
        small.run(archive, tmp_path / "out", cluster=ClusterConfig(started.address, (), ca, own, key))
        _same(tmp_path / "out", here)
        import dask

        with dask.config.set({"distributed.comm.timeouts.connect": "2s"}):
            for address, authority in ((started.address.replace("tls", "tcp"), None), (started.address, ca)):
                with pytest.raises((MachineError, UsageError)):
                    small.run(archive, tmp_path / "no", cluster=ClusterConfig(address, (), authority))


# --------------------------------------------------------------------------- orders


def test_paths_below_a_mapped_folder_and_no_others_are_changed():
    pairs = ((Path("/data"), PurePosixPath("/mnt/data")), (Path("/data/results"), PurePosixPath("/out")))
    paths = [Path("/data/a"), Path("/data"), Path("/data/results/b"), Path("/database/c"), Path("data/d"), "/data/e"]
    expected = [Path("/mnt/data/a"), Path("/mnt/data"), Path("/out/b"), Path("/database/c"), Path("data/d"), "/data/e"]
    there = remote.packed({"deep": (paths,)}, pairs)
    assert remote.unpacked(there) == {"deep": (expected,)}
    back = tuple((b, a) for a, b in pairs)
    assert remote.unpacked(remote.packed(remote.unpacked(there), back)) == {"deep": (paths,)}


def test_a_run_waits_for_what_one_before_it_left_running_in_its_folder(tmp_path, monkeypatch):
    order = remote.packed(_order(tmp_path / "out"), ())

    async def asked():
        waiting = asyncio.create_task(remote.ready(order, _Worker))
        await asyncio.sleep(0.3)
        before = waiting.done()
        remote._Working.out = None
        return before, remote.unpacked(await waiting)

    monkeypatch.setattr(remote._Working, "out", tmp_path / "out")
    before, (problem, versions) = asyncio.run(asked())
    assert not before
    assert isinstance(problem, UsageError)
    assert set(versions) == {"Python", "the vector units", *remote.PACKAGES}
    monkeypatch.setattr(remote._Working, "out", tmp_path / "other")
    assert asyncio.run(remote.ready(order, _Worker))


class _Worker:
    address = "tcp://x:1"

    class state:  # noqa: N801 (Dask's name)
        nthreads = 1


def _order(out):
    needs = remote.Needs("0", ModelRef(None, "", 0.5), out, out)
    return remote.Order(0, abs, (0,), needs, ())


# --------------------------------------------------------------------------- two networks


def _ip(*arguments):
    return subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)


@pytest.fixture
def networks():
    """Two network namespaces that are joined: how to run in each, and the address of the first."""
    names = [f"mammoscan{os.getpid()}{end}" for end in "ab"]
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces need root and iproute2")
    veth = [f"ms{os.getpid()}{end}" for end in "ab"]
    try:
        steps = [("netns", "add", name) for name in names]
        steps.append(("link", "add", veth[0], "netns", names[0], "type", "veth", "peer", veth[1], "netns", names[1]))
        for number, (name, link) in enumerate(zip(names, veth, strict=True), 1):
            steps.append(("-n", name, "addr", "add", f"10.213.77.{number}/24", "dev", link))
            steps += [("-n", name, "link", "set", device, "up") for device in ("lo", link)]
        for step in steps:
            done = _ip(*step)
            if done.returncode:
                pytest.skip(f"ip {' '.join(step)}: {done.stderr.strip()}")
        yield [("ip", "netns", "exec", name) for name in names], "10.213.77.1"
    finally:
        for name in names:
            _ip("netns", "del", name)


def test_workers_in_another_network_with_other_mounts(archive, tmp_path, here, networks):
    """This side's folders are not there: a file system of nothing lies over them, and they are mounted elsewhere."""
    (first, second), address = networks
    out, there = tmp_path / "out", tmp_path / "mnt"
    for folder in (out, there / "images", there / "results"):
        folder.mkdir(parents=True)
    mounts = f"mount --bind {archive} {there}/images && mount --bind {out} {there}/results && "
    hidden = f"mount -t tmpfs tmpfs {archive} && mount -t tmpfs tmpfs {out} && "
    inside = (*second, "sh", "-c", mounts + hidden + 'exec "$@"', "sh")
    with Cluster(tmp_path / "cluster", host=address, inside=first, inside_workers=inside, hooks=STUB) as started:
        code = (
            "from tests import small; from mammoscan.run import work; from mammoscan.run.config import ClusterConfig\n"
            "from pathlib import Path, PurePosixPath\n"
            f"work.now = lambda _days=0: {CREATED!r}\n"
            f"paths = [(Path(a), PurePosixPath({str(there)!r}, b)) for a, b in "
            f"(({str(archive)!r}, 'images'), ({str(out)!r}, 'results'))]\n"
            f"small.run({str(archive)!r}, {str(out)!r}, cluster=ClusterConfig({started.address!r}, tuple(paths)))\n"
        )
        subprocess.run([*first, sys.executable, "-c", code], check=True, cwd=ROOT, timeout=300)
    _same(out, here)

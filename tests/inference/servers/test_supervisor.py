"""Several processes on one port, as an operator starts, kills and stops them."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import psutil
import pytest
from websockets.sync.client import connect

from inference.decisions.line_owner import owner_of
from inference.servers.supervisor import how_it_ended, settings_of_a_process, supervise
from inference.settings import ScalingSettings, ServerSettings, Settings
from inference.start_errors import AddressUnavailable
from tests.inference import tiny_models
from tests.inference.live_server import ROOT, LiveServer
from tests.inference.process_group import children, group, left_behind, lives, metrics, number_of, ready, total, until
from tests.inference.servers.test_inference_api import STREAM, WINDOW_TOML, call, row

FIRST = datetime(2025, 12, 5, tzinfo=timezone.utc)
ADD = json.dumps({"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [1.0]}]}).encode()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tiny_models.package(folder, "window", 1, tiny_models.window_model, WINDOW_TOML)
    tiny_models.package(folder, "adder", 1, tiny_models.adder)
    return folder


@pytest.fixture(scope="module")
def pair(models: Path) -> Iterator[LiveServer]:
    with group(models) as server:
        yield server


def timed_row(line: int, minute: int) -> dict[str, Any]:
    """Row `minute` of a line, as a call; no two are equal."""
    value = (7 * line + 3 * minute) % 20 / 10 - 1
    return call("window", row(value, timestamp=(FIRST + timedelta(minutes=minute)).isoformat()), stream_id=f"L{line}")


class Caller:
    """One connection, opened again when it is lost."""

    def __init__(self, server: LiveServer) -> None:
        self._server = server
        self._connection = server.connect()

    def post(self, body: Any, path: str = STREAM) -> tuple[int, Any]:
        try:
            self._connection.request("POST", path, json.dumps(body), {"content-type": "application/json"})
            response = self._connection.getresponse()
            return response.status, json.loads(response.read())
        except (OSError, http.client.HTTPException):
            self._connection.close()
            self._connection = self._server.connect()
            raise

    def close(self) -> None:
        self._connection.close()


def meaning(answer: tuple[int, Any]) -> tuple[int, Any]:
    """An answer without its id and time."""
    status, body = answer
    body.pop("prediction_id", None)
    body.get("result", {}).pop("processing_time_ms", None)
    return status, body


def lines_over_connections(server: LiveServer, lines: int, rows: int, connections: int) -> dict[int, list[Any]]:
    """Answers by line. Each row goes over another connection than the one before it, and the lines go side by side."""
    callers = [(Caller(server), threading.Lock()) for _ in range(connections)]

    def feed(line: int) -> list[Any]:
        answers = []
        for minute in range(rows):
            caller, lock = callers[(5 * line + 3 * minute) % connections]
            with lock:
                answers.append(meaning(caller.post(timed_row(line, minute))))
        return answers

    with ThreadPoolExecutor(lines) as pool:
        found = dict(zip(range(lines), pool.map(feed, range(lines)), strict=True))
    for caller, _ in callers:
        caller.close()
    return found


# ---- one server to its callers ---------------------------------------------------------------------------------------


def test_lines_fed_over_many_connections_answer_as_with_one_process(models: Path, pair: LiveServer) -> None:
    with LiveServer(models) as one:
        expected = lines_over_connections(one, lines=4, rows=12, connections=1)
    before = metrics(pair)
    assert lines_over_connections(pair, lines=4, rows=12, connections=16) == expected
    after = metrics(pair)
    assert {owner_of("window", f"L{line}", 2) for line in range(4)} == {0, 1}
    assert total(after, "glassai_rows_handed_over_total") > total(before, "glassai_rows_handed_over_total")
    assert after['glassai_lines{model="window",version="1"}'] == 4


def test_a_line_over_several_web_sockets_is_one_line_too(pair: LiveServer) -> None:
    lines = ["W0", "W1", "W2", "W3"]
    assert {owner_of("window", line, 2) for line in lines} == {0, 1}
    for line in lines:
        query = f"ws://127.0.0.1:{pair.port}{STREAM}?model_name=window&stream_id={line}"
        with ExitStack() as opened:
            sockets = [opened.enter_context(connect(query)) for _ in range(6)]
            known = []
            for minute in range(6):
                sockets[minute].send(json.dumps(row(minute / 10, timestamp=f"2025-12-05T10:0{minute}:00Z")))
                known.append(json.loads(sockets[minute].recv(10))["result"]["real_rows"])
            assert known == [1, 2, 3, 4, 4, 4]
            for second in range(20):  # rows that do not wait for each other's answers keep their order on a socket
                sockets[0].send(json.dumps(row(second / 20, timestamp=f"2025-12-05T11:00:{second:02}Z")))
            answers = [json.loads(sockets[0].recv(10))["result"]["defect_probability"] for _ in range(20)]
            assert answers[4:] == sorted(answers[4:])


def test_connections_are_spread_over_the_processes(pair: LiveServer) -> None:
    def held() -> list[int]:
        taken = [child.net_connections("tcp") for child in children(pair)]
        return [sum(c.laddr.port == pair.port and c.status == "ESTABLISHED" for c in found) for found in taken]

    connections = [pair.connect() for _ in range(40)]
    for connection in connections:
        connection.connect()
    until("not all connections are taken", lambda: sum(held()) >= 40)
    assert min(held()) >= 5  # 40 fair coins do worse once in 100,000 times
    for connection in connections:
        connection.close()


def test_one_page_counts_what_all_processes_did(pair: LiveServer) -> None:
    answered = 'glassai_http_responses_total{code="200",method="POST",route="/v2/models/{name}/infer"}'
    ran = 'glassai_rows_total{model="adder",version="1"}'
    before = metrics(pair)
    for _ in range(30):
        assert pair.post("/v2/models/adder/infer", ADD).status == 200
    pages = [metrics(pair) for _ in range(6)]  # of whichever process is asked
    assert {page[answered] - before.get(answered, 0) for page in pages} == {30}
    assert all(page[ran] - before[ran] >= 30 for page in pages)
    page = pages[-1]
    assert page['glassai_processes{state="answering"}'] == 2
    assert page['glassai_processes{state="missing"}'] == 0
    assert page['glassai_model_ready{model="adder",process="0",version="1"}'] == 1
    assert page['glassai_model_ready{model="adder",process="1",version="1"}'] == 1
    assert page['glassai_runners{model="adder",version="1"}'] >= 2
    infinite = 'glassai_batch_rows_bucket{le="+Inf",model="adder",version="1"}'
    assert page[infinite] == page['glassai_batch_rows_count{model="adder",version="1"}']


def test_every_line_of_the_log_says_which_process_wrote_it(pair: LiveServer) -> None:
    lines = [json.loads(line) for line in pair.lines if line.startswith("{")]
    assert {line["process"] for line in lines} == {"parent", "0", "1"}
    assert "Processes: 2" in pair.output


def test_the_parent_loads_neither_models_nor_a_server(pair: LiveServer) -> None:
    loaded = Path(f"/proc/{pair.process.pid}/maps").read_text()
    assert "python" in loaded
    assert "onnxruntime" not in loaded
    assert "uvloop" not in loaded
    assert psutil.Process(pair.process.pid).memory_info().rss < 60e6  # 40 MB where it was written
    assert all("onnxruntime" in Path(f"/proc/{child.pid}/maps").read_text() for child in children(pair))


# ---- ends ------------------------------------------------------------------------------------------------------------


def keep_asking(server: LiveServer, stop: threading.Event, seen: Counter[str], line: int, minute: int) -> None:
    """Rows of one line until told to stop; a row that got no answer is sent again, as a careful caller does."""
    caller = Caller(server)
    while not stop.is_set():
        try:
            status, body = caller.post(timed_row(line, minute))
        except (OSError, http.client.HTTPException):
            seen["lost"] += 1
            continue
        seen[f"{status} {body.get('reason', '')}".strip()] += 1
        minute += 1
    caller.close()


def kill_one_under_load(
    server: LiveServer, ready_again: Callable[[], bool], first: int = 100, number: signal.Signals = signal.SIGKILL
) -> Counter[str]:
    """End a process by a signal while 8 lines are fed, from row `first` on; what the callers saw."""
    seen, stop, growing = Counter[str](), threading.Event(), [0.0]
    with ThreadPoolExecutor(8) as pool:
        asking = [pool.submit(keep_asking, server, stop, seen, line, first) for line in range(8)]
        try:
            until("nothing is answered", lambda: seen["200"] > 50)
            doomed = children(server)[0]
            doomed.send_signal(number)
            until("it does not die", lambda: not doomed.is_running())

            def back() -> bool:
                page = metrics(server)  # which never fails, and whose sums never fall
                growing.append(total(page, "glassai_requests_total"))
                listening = all(f"(pid {child.pid}) serves" in server.output for child in children(server))
                return page['glassai_processes{state="answering"}'] == 2 and listening and ready_again()

            until("nobody took the place", back)
        finally:
            stop.set()
    for future in asking:
        assert future.result() is None
    assert growing == sorted(growing)
    return seen


def test_one_that_is_killed_is_replaced_and_the_others_are_unharmed(pair: LiveServer) -> None:
    doomed, other = children(pair)
    number = number_of(pair, doomed)
    seen = kill_one_under_load(pair, lambda: len(children(pair)) == 2)
    assert set(seen) <= {"200", "lost", "503 line_unavailable", "503 model_not_ready"}
    assert seen["lost"] <= 8 * 2  # each connection of the killed one once, and perhaps one that it had not taken
    assert lives(other)
    assert f"process {number} (pid {doomed.pid}) ended by SIGKILL; another starts in 0.1 s" in pair.output
    assert metrics(pair)[f'glassai_process_restarts{{process="{number}"}}'] == 1
    for line in range(8):  # whichever process holds it now
        until("the line is not answered", lambda line=line: pair.post(STREAM, timed_row(line, 10**6)).status == 200)


def test_ctrl_c_under_load_loses_nothing_and_leaves_nothing(models: Path) -> None:
    """A terminal sends it to the parent's group; the processes are in groups of their own and are told once."""
    with group(models) as server:
        assert {os.getpgid(child.pid) for child in children(server)}.isdisjoint({os.getpgid(server.process.pid)})
        family = [psutil.Process(server.process.pid), *children(server)]
        assert left_behind(server)

        told_to_stop = threading.Event()

        def ask(line: int) -> Counter[str]:
            found, minute = Counter[str](), 0
            with closing(server.connect()) as connection:
                while True:
                    body = json.dumps(timed_row(line, minute))
                    try:
                        sent_before = False
                        connection.request("POST", STREAM, body, {"content-type": "application/json"})
                        sent_before = not told_to_stop.is_set()
                        response = connection.getresponse()
                        text = response.read()
                    except (OSError, http.client.RemoteDisconnected, http.client.CannotSendRequest):
                        found["dropped" if sent_before else "closed"] += 1  # or closed between two requests
                        return found
                    found[str(response.status)] += 1
                    assert text
                    if response.status != 200:
                        return found
                    minute += 1

        with ThreadPoolExecutor(8) as pool:
            asking = [pool.submit(ask, line) for line in range(8)]
            until("nothing is answered", lambda: total(metrics(server), "glassai_requests_total") > 100)
            told_to_stop.set()
            server.process.send_signal(signal.SIGINT)
            assert server.process.wait(30) == 0
            seen = sum((future.result() for future in asking), Counter[str]())
        assert set(seen) <= {"200", "503", "closed"}
        assert not any(map(lives, family))
        assert left_behind(server) == []
        assert "Traceback" not in server.output
        assert "SIGINT: stopping" in server.output
        assert "at once" not in server.output


def test_no_process_outlives_a_parent_that_is_killed(models: Path) -> None:
    with group(models) as server:
        family = children(server)
        server.process.kill()
        server.process.wait(30)
        until("a process outlives its parent", lambda: not any(map(lives, family)))
        until("something is left", lambda: left_behind(server) == [])


def test_one_that_hangs_holds_up_neither_the_page_nor_the_lines_of_the_other(pair: LiveServer) -> None:
    hung = children(pair)[0]
    number = number_of(pair, hung)
    theirs = next(line for line in range(20) if owner_of("window", f"L{line}", 2) != number)
    hung.suspend()
    try:
        until("the page does not go on", lambda: answers_with_one(pair))
        until("a line of the other is not answered", lambda: quick_status(pair, theirs) == 200)
    finally:
        hung.resume()


def answers_with_one(server: LiveServer) -> bool:
    """Whether a page, of a process that runs, says that one is missing."""
    try:
        with closing(server.connect(1.0)) as connection:
            connection.request("GET", "/metrics")
            return b'glassai_processes{state="missing"} 1.0' in connection.getresponse().read()
    except (OSError, http.client.HTTPException):  # this connection went to the one that hangs
        return False


def quick_status(server: LiveServer, line: int) -> int:
    try:
        with closing(server.connect(0.3)) as connection:
            connection.request("POST", STREAM, json.dumps(timed_row(line, 1)), {"content-type": "application/json"})
            return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0


# ---- starts ----------------------------------------------------------------------------------------------------------


def start(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "inference.streaming_predictor", "--processes", "2", "--port", "0", *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def test_what_keeps_every_process_from_starting_stops_the_parent_and_is_said_once(tmp_path: Path) -> None:
    done = start("--models", str(tmp_path / "nowhere"))
    assert done.returncode == 2
    assert done.stderr.count("nowhere' cannot be read") == 1
    assert "another starts" not in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_that_another_server_shares_out_is_taken(pair: LiveServer) -> None:
    settings = Settings(server=ServerSettings(port=pair.port, processes=2))
    with pytest.raises(AddressUnavailable):
        supervise(settings, lambda port, names: None)


def test_each_process_has_its_share_of_the_cores() -> None:
    many = settings_of_a_process(Settings(server=ServerSettings(processes=64)), 8123)
    chosen = settings_of_a_process(Settings(server=ServerSettings(processes=2), scaling=ScalingSettings(cores=3)), 8123)
    assert (many.server.port, many.scaling.cores) == (8123, 1)
    assert chosen.scaling.cores == 3


@pytest.mark.parametrize(
    ("status", "words"), [(0, "ended with status 0"), (-9, "ended by SIGKILL"), (-200, "ended by signal 200")]
)
def test_an_end_in_words(status: int, words: str) -> None:
    assert how_it_ended(status) == words


@pytest.mark.slow
def test_one_that_stays_silent_is_killed_and_replaced(models: Path) -> None:
    with group(models) as server:
        hung = children(server)[0]
        number = number_of(server, hung)
        hung.suspend()
        until("it is not killed", lambda: not hung.is_running(), limit_s=60)
        until("nobody took the place", lambda: ready(server, 2))
        assert f"process {number} (pid {hung.pid}) is killed: it was silent for 30" in server.output


@pytest.mark.slow
def test_twenty_kills_and_crashes_one_after_the_other(models: Path) -> None:
    """A native crash of a model in a thread takes its process along."""
    with group(models) as server:
        for time in range(20):
            number = signal.SIGSEGV if time % 2 else signal.SIGKILL
            seen = kill_one_under_load(server, lambda: len(children(server)) == 2, 100_000 * time, number)
            assert set(seen) <= {"200", "lost", "503 line_unavailable", "503 model_not_ready"}
        assert total(metrics(server), "glassai_process_restarts") == 20
        assert server.output.count("ended by SIGSEGV") == 10

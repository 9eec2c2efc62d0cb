"""The arithmetic of `make bench`. Nothing is measured here."""

import pytest

from tests.bench import calls, document, figures, wrk
from tests.bench.figures import Sample
from tests.bench.growth import flatness
from tests.bench.issuer import Issuer, corrupted

# A program may call itself anything, even like the rest of its line.
STAT = "4242 (a) 1 (b) R 17 4242 17 0 -1 4194304 122 0 0 0 31 12 5 7 20 0 3 0 3797191 3133440 418"
PROC_STAT = "cpu  100 20 30 4000 50 6 7 8 9 10\ncpu0 1 2 3 4 5 6 7 8 9 10\nintr 1\n"
ROLLUP = "563f-7ffc ---p 00000000 00:00 0 [rollup]\nRss:                1784 kB\nPss:                 321 kB\n"


def sample(cost: float, foreign: float = 0.0, **more: float) -> Sample:
    return Sample({"cpu_us": cost} | more, foreign)


def test_a_row_is_the_median_with_its_range():
    found = figures.row([sample(30.0), sample(10.0), sample(11.0)])
    assert (found["cpu_us"], found["range"]["cpu_us"]) == (11.0, [10.0, 30.0])


def test_the_median_of_two_samples_lies_between_them():
    assert figures.row([sample(10.0), sample(20.0)])["cpu_us"] == 15.0


def test_disturbed_samples_do_not_count_beside_clean_ones():
    found = figures.row([sample(10.0), sample(99.0, foreign=figures.FOREIGN_CORES)])
    assert (found["cpu_us"], found["clean"], found["samples"], found["disturbed"]) == (10.0, 1, 2, False)


def test_a_row_without_a_clean_sample_says_so():
    found = figures.row([sample(10.0, foreign=0.5), sample(20.0, foreign=0.7)])
    assert (found["cpu_us"], found["clean"], found["disturbed"]) == (15.0, 0, True)


def test_a_row_repeats_what_a_reader_must_know_once():
    marked = Sample({"cpu_us": 1.0}, 0.0, ["tokens were sent twice"])
    assert figures.row([marked, marked])["marks"] == ["tokens were sent twice"]


def test_ratios_are_of_the_pairs_that_were_measured():
    rows = {
        "gateway_jwt_cached": {"cpu_us": 30.0},
        "envoy_jwt_cached": {"cpu_us": 60.0},
        "vend_api_key": {"cpu_us": 1.0},
    }
    assert figures.ratios(rows) == {"gateway_jwt_cached/envoy_jwt_cached": 0.5}


def test_the_range_of_a_ratio_pairs_the_samples_of_a_round():
    taken = {"gateway_jwt_cached": [sample(30.0), sample(80.0)], "envoy_jwt_cached": [sample(60.0), sample(100.0)]}
    assert figures.paired_ranges(taken) == {"gateway_jwt_cached/envoy_jwt_cached": [0.5, 0.8]}


def test_growth_is_told_as_a_multiple_of_the_smallest_size():
    costs = {
        "jwt_10": 10.0,
        "jwt_1000": 11.0,
        "jwt_100000": 12.0,
        "grant_10": 5.0,
        "grant_1000": 5.0,
        "grant_100000": 6.0,
    }
    found = flatness({name: {"cpu_us": cost} for name, cost in costs.items()})
    assert found == {"jwt_1000": 1.1, "jwt_100000": 1.2, "grant_1000": 1.0, "grant_100000": 1.2}


def test_the_times_of_a_process_are_read_behind_its_name():
    assert figures.stat_ticks(STAT) == (31, 12, 5, 7)


def test_the_parent_of_a_process_is_read_behind_its_name():
    assert figures.stat_parent(STAT) == 17


def test_busy_time_is_everything_but_idling_and_waiting():
    assert figures.busy_ticks(PROC_STAT) == 100 + 20 + 30 + 6 + 7 + 8


@pytest.mark.parametrize(("name", "size"), [("Pss", 321), ("Rss", 1784), ("Pss_Anon", 0), ("ss", 0)])
def test_memory_is_read_by_its_whole_name(name: str, size: int):
    assert figures.kib(ROLLUP, name) == size


def test_a_tree_of_processes_holds_grandchildren_and_no_strangers():
    assert sorted(figures.descendants({1: 0, 5: 1, 6: 5, 7: 6, 8: 1}, 5)) == [5, 6, 7]


def test_a_request_is_written_with_its_length():
    file = calls.write([b"POST / HTTP/1.1\r\n\r\n{}", b"x\ny"])
    assert file.read_bytes() == b"21\nPOST / HTTP/1.1\r\n\r\n{}3\nx\ny"


def test_a_request_announces_the_length_of_its_body():
    head, _, content = calls.post("http://127.0.0.1:1/a%2Fb?c=d", {"x": "y"}, b"{}").partition(b"\r\n\r\n")
    assert head.split(b"\r\n") == [b"POST /a%2Fb?c=d HTTP/1.1", b"host: 127.0.0.1:1", b"content-length: 2", b"x: y"]
    assert content == b"{}"


def test_a_body_has_the_size_that_was_asked_for():
    assert len(calls.body(200)) == 200


def test_tokens_that_are_used_once_are_not_given_again():
    issuer = Issuer("http://127.0.0.1:1")
    source = calls.Fresh(issuer, "ES256", "http://127.0.0.1:1/", b"{}", _rate=10.0)
    first, _ = source.ready(1)
    sent = [line for line in first.read_bytes().splitlines() if line.startswith(b"authorization")][:100]
    assert source.used(100, 1) == []
    following, _ = source.ready(1)
    assert not {*sent} & {*following.read_bytes().splitlines()}


def test_tokens_that_ran_out_are_told():
    source = calls.Fresh(Issuer("http://127.0.0.1:1"), "ES256", "http://127.0.0.1:1/", b"{}", _rate=1.0)
    source.ready(1)
    assert source.used(100_000, 1) == ["tokens were sent twice"]


def test_a_corrupted_token_differs_in_its_signature_only():
    (token,) = Issuer("http://127.0.0.1:1").tokens("ES256", 1)
    bad = corrupted(token)
    assert bad != token
    assert bad.rpartition(".")[0] == token.rpartition(".")[0]


def test_what_the_load_generator_prints_becomes_figures():
    said = '{"requests":100,"us":2000000,"status":1,"socket":2,"p50_us":1500.0,"p99_us":9000.0,"following":132}'
    found = wrk.read(f"Running 2s test\n{said}\nRequests/sec: 50\n", "")
    assert found == wrk.Answered(100, 2.0, 1, 2, 1.5, 9.0, 132)


def test_a_load_generator_that_prints_no_figures_is_an_error():
    with pytest.raises(RuntimeError, match="unable to connect"):
        wrk.read("", "unable to connect to 127.0.0.1:1 Connection refused")


def test_the_document_shows_every_row_and_ratio():
    names = ("gateway_jwt_cached", "envoy_jwt_cached")
    figure = {"rps": 1.0, "p50_ms": 1.0, "p99_ms": 1.0, "pss_mib": 1.0}
    rows = {name: figures.row([sample(60.0, **figure)]) for name in names}
    made = {
        "date": "2026-01-01",
        "processor": "p",
        "cores": 2,
        "kernel": "6",
        "versions": {},
        "rounds": 4,
        "seconds": 2,
    }
    text = document.text({"rows": rows, "ratios": figures.ratios(rows), "ratio_ranges": {}, "conditions": made})
    assert {f"`{names[0]}`", f"`{names[1]}`", f"`{names[0]}/{names[1]}`"} <= {word.strip() for word in text.split("|")}

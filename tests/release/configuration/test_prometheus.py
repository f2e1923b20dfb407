"""What is read from a PromQL query without Prometheus."""

import pytest

from release.configuration.prometheus import for_environment, rate_in, selectors, without_zero


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("http_requests_total", (("http_requests_total", ()),)),
        (" http_errors_total\n", (("http_errors_total", ()),)),
        ('http_requests_total{code=~"5.."}', (("http_requests_total", ("code",)),)),
        ('a{b="{c=1}", d!~"5[0-9]{2}"} # e{f="g"}', (("a", ("b", "d")),)),
        ("job:errors:sum{env='production',env!='x'}", (("job:errors:sum", ("env",)),)),
        (
            'a{b="1"} * on (pod) group_left (version) kube_pod_labels{label_app="api"}',
            (("a", ("b",)), ("kube_pod_labels", ("label_app",))),
        ),
        ("sum by (version) (a) or vector(0)", ()),
        ('{__name__="a"}', ()),
    ],
)
def test_the_metrics_that_a_query_selects_by_labels(
    query: str, found: tuple[tuple[str, tuple[str, ...]], ...]
) -> None:
    assert selectors(query) == found


@pytest.mark.parametrize(
    ("query", "function"),
    [
        ("sum(rate(a[5m]))", "rate"),
        ("increase (a[1m])", "increase"),
        ("a", ""),
        ('rate_total{path="rate(x)"}', ""),
        ("request_rate", ""),
    ],
)
def test_a_rate_is_told_from_a_counter(query: str, function: str) -> None:
    assert rate_in(query) == function


@pytest.mark.parametrize(
    ("query", "rest"),
    [
        ("sum(a) or vector(0)", "sum(a)"),
        ("a{b='c'}\n or on() vector( 0 ) ", "a{b='c'}"),
        ("a or vector(1)", "a or vector(1)"),
        ("vector(0) or a", "vector(0) or a"),
    ],
)
def test_a_zero_in_place_of_nothing_can_be_left_out(query: str, rest: str) -> None:
    assert without_zero(query) == rest


def test_only_the_environment_is_filled_in() -> None:
    query = 'a{environment="$environment",code=~"5..$",b="$c"}'
    assert for_environment(query, "production") == 'a{environment="production",code=~"5..$",b="$c"}'

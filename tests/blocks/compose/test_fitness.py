"""What is refused in the plan, because step 4 or 5 would certainly fail on it."""

from typing import Any

import pytest

from blocks.compose.fitness import (
    Wanted,
    external_parts,
    in_a_profile,
    network_name,
    others_of,
    problems_of,
    read_otherwise,
)
from release.errors import BadConfiguration

IMAGE = "probe.invalid/image@sha256:" + 64 * "0"
FILE = "docker-compose.yml"
BEHIND_A_ROUTER = {"routed": True, "replicas": 1}
ALONE = {"routed": False, "replicas": 1}
TWO_ALONE = {"routed": False, "replicas": 2}
HOW = {"behind a router": BEHIND_A_ROUTER, "alone": ALONE, "two alone": TWO_ALONE}


def project(**api: Any) -> dict[str, Any]:
    """What `docker compose config` makes of a project with this service."""
    service = {"image": IMAGE, "networks": {"default": None}, **api}
    return {
        "name": "shop",
        "services": {"api": service, "proxy": {"image": "haproxy"}},
        "networks": {"default": {"name": "shop_default"}},
    }


def wanted(**other: Any) -> Wanted:
    return Wanted(**{"service": "api", "image_variable": "API_IMAGE", "image": IMAGE} | other)


def port(published: str | None = None) -> dict[str, Any]:
    found = {"mode": "ingress", "target": 8000, "protocol": "tcp"}
    return found | ({"published": published} if published else {})


FIXED = {"networks": {"back": {"ipv4_address": "10.77.0.5"}}}
SIX = {"networks": {"back": {"ipv6_address": "fd00::5"}}}


@pytest.mark.parametrize(
    ("api", "how", "sentence"),
    [
        ({"ports": [port("80")]}, "behind a router", "publishes port 80, which only one container"),
        ({"ports": [port("80")]}, "two alone", "can have: rollout.replicas is 2"),
        ({"ports": [port("80")]}, "alone", ""),
        ({"ports": [port("80"), port("81")]}, "two alone", "publishes port 80, 81"),
        # The engine chooses: any number of containers has one.
        ({"ports": [port()]}, "behind a router", ""),
        # A range is enough where each container, old and new, has one.
        ({"ports": [port("8000-8001")]}, "behind a router", ""),
        ({"ports": [port("8000-8001")]}, "two alone", ""),
        (
            {"container_name": "api"},
            "behind a router",
            "has the container_name api, which only one",
        ),
        ({"container_name": "api"}, "two alone", "rollout.replicas is 2"),
        ({"container_name": "api"}, "alone", ""),
        ({"network_mode": "host"}, "behind a router", "has network_mode: host, in which no router"),
        ({"network_mode": "none"}, "behind a router", "has network_mode: none, in which no router"),
        ({"network_mode": "service:vpn"}, "behind a router", "network_mode: service:vpn"),
        ({"network_mode": "bridge"}, "behind a router", "network_mode: bridge"),
        ({"network_mode": "host"}, "two alone", "only one container can listen on its port"),
        ({"network_mode": "service:vpn"}, "two alone", "only one container can listen"),
        ({"network_mode": "host"}, "alone", ""),
        ({"network_mode": "bridge"}, "two alone", ""),
        (FIXED, "behind a router", "has the address 10.77.0.5, which only one container can have"),
        (SIX, "two alone", "has the address fd00::5"),
        (FIXED, "alone", ""),
        ({"logging": {"driver": "none"}}, "alone", "cannot be read back (logging driver none)"),
        # Of what it cannot read back, the engine keeps a copy, unless it is told not to.
        ({"logging": {"driver": "syslog"}}, "alone", ""),
        (
            {"logging": {"driver": "syslog", "options": {"cache-disabled": "true"}}},
            "alone",
            "(logging driver syslog with cache-disabled)",
        ),
        ({"logging": {"driver": "journald", "options": {"cache-disabled": "true"}}}, "alone", ""),
        ({"logging": {"options": {"max-size": "1m"}}}, "alone", ""),
        (
            {"networks": {"back": None, "web": None}},
            "behind a router",
            "is on 2 networks, back and web, and none is named as the router's",
        ),
        (
            {"networks": {"default": None, "data": None}},
            "behind a router",
            "is on 2 networks, default and data, and none is named",
        ),
        ({"networks": {"back": None, "web": None}}, "two alone", ""),
        ({"image": "api:latest"}, "alone", "is not exactly ${API_IMAGE}"),
        ({"image": None, "build": {"context": "."}}, "alone", "is not exactly ${API_IMAGE}"),
        # Measured: what is asked for when it is started counts more than these.
        ({"deploy": {"mode": "global", "replicas": 1}, "scale": 1}, "two alone", ""),
        ({"healthcheck": {"disable": True}, "restart": "no"}, "behind a router", ""),
    ],
)
def test_a_service_is_refused_for_what_certainly_fails(
    api: dict[str, Any], how: str, sentence: str
) -> None:
    problems = problems_of(project(**api), wanted(**HOW[how]), FILE)

    assert [sentence in problem.sentence for problem in problems] == ([True] if sentence else [])
    assert all(problem.hint for problem in problems)


def test_a_range_of_ports_has_to_last_for_old_and_new_side_by_side() -> None:
    config = project(ports=[port("8000-8002")])

    (problem,) = problems_of(config, wanted(routed=True, replicas=2), FILE)

    assert problem.sentence == (
        "service api publishes port 8000-8002, which only one container can have: with a router "
        "the next release starts beside the one that serves"
    )
    assert problem.hint == (
        "remove ports from service api in docker-compose.yml; the router reaches it without"
    )


def test_everything_that_is_wrong_is_said_at_once() -> None:
    config = project(container_name="api", ports=[port("80")], logging={"driver": "none"})

    assert len(problems_of(config, wanted(**BEHIND_A_ROUTER), FILE)) == 3


def test_the_engines_own_driver_counts_where_the_service_names_none() -> None:
    (problem,) = problems_of(project(), wanted(**ALONE, log_driver="none"), FILE)

    assert problem.hint == "logging: {driver: local} for service api in docker-compose.yml"


def test_a_service_that_is_not_there_is_named_with_those_that_are() -> None:
    (problem,) = problems_of(project(), wanted(**ALONE, service="web"), FILE)

    assert problem.sentence == "docker-compose.yml has no service 'web'; there is: api, proxy"


def test_a_service_in_a_profile_that_is_not_enabled_is_told_from_one_that_is_missing() -> None:
    everything = project(profiles=["web"])

    found = in_a_profile(everything, "api", FILE)

    assert found is not None
    assert "belongs to the profile web, which is not enabled" in found.sentence
    assert found.hint == "COMPOSE_PROFILES=web in the .env beside it"
    assert in_a_profile(everything, "proxy", FILE) is None
    assert in_a_profile(everything, "missing", FILE) is None


class TestNetworks:
    TWO = project(networks={"back": None, "web": None}) | {
        "networks": {"back": {"name": "shop_back"}, "web": {"name": "public", "external": True}}
    }

    def test_one_that_is_named_is_taken(self) -> None:
        assert problems_of(self.TWO, wanted(**BEHIND_A_ROUTER, network="web"), FILE) == ()
        assert network_name(self.TWO, "api", "web") == "public"
        assert network_name(self.TWO, "api", "public") == "public"

    def test_the_refusal_says_what_to_write(self) -> None:
        (problem,) = problems_of(self.TWO, wanted(**BEHIND_A_ROUTER), FILE)

        assert problem.hint == (
            "in the environment's router table of ignition.toml: "
            'network = "back" or network = "web", whichever HAProxy is on; then: ignition setup'
        )

    def test_one_that_the_service_is_not_on_is_refused(self) -> None:
        with pytest.raises(BadConfiguration, match="is on back, web, not on network 'default'"):
            network_name(self.TWO, "api", "default")

    def test_the_only_one_needs_no_name(self) -> None:
        assert problems_of(project(), wanted(**BEHIND_A_ROUTER), FILE) == ()
        assert network_name(project(), "api", "") == "shop_default"

    def test_what_is_not_the_projects_own_has_to_be_there(self) -> None:
        config = self.TWO | {"volumes": {"data": {"name": "shop-data", "external": True}}}
        config["services"]["api"]["volumes"] = [
            {"type": "volume", "source": "data", "target": "/data"},
            {"type": "bind", "source": "/etc", "target": "/etc"},
        ]

        assert list(external_parts(config, "api")) == [
            ("network", "public"),
            ("volume", "shop-data"),
        ]


@pytest.mark.parametrize(
    ("file", "there", "named", "sentence"),
    [
        (FILE, [FILE], [], ""),
        (
            FILE,
            [FILE, "docker-compose.override.yml"],
            [],
            "docker-compose.override.yml beside docker-compose.yml is read by the host's own",
        ),
        (FILE, [FILE, "compose.override.yaml"], [], "compose.override.yaml beside"),
        # Compose would take the other file, and does so silently for whoever starts it.
        (FILE, [FILE, "compose.yaml"], [], "compose.yaml beside docker-compose.yml is what"),
        ("compose.yaml", [FILE, "compose.yaml"], [], ""),
        # Whoever starts it has to name this one, so that no override is read.
        ("production.yml", ["production.yml", FILE, "docker-compose.override.yml"], [], ""),
        (FILE, [FILE], [FILE], ""),
        (FILE, [FILE, "docker-compose.override.yml"], [FILE], ""),
        (FILE, [FILE, "more.yml"], [FILE, "more.yml"], "COMPOSE_FILE in .env names docker-compose"),
        ("production.yml", ["production.yml"], ["staging.yml"], "names staging.yml, which the"),
    ],
)
def test_the_hosts_own_start_reads_the_same_project(
    file: str, there: list[str], named: list[str], sentence: str
) -> None:
    found = read_otherwise(file, there, named)

    assert (found is not None) == bool(sentence)
    assert found is None or (sentence in found.sentence and found.hint)


def test_other_services_of_the_same_image_are_named() -> None:
    config = project()
    config["services"] |= {"worker": {"image": IMAGE}, "beat": {"image": IMAGE}}

    assert others_of(config, wanted(**ALONE)) == ("beat", "worker")
    assert others_of(project(), wanted(**ALONE)) == ()

"""What the sandbox's Prometheus scrapes."""

import re
from pathlib import Path
from typing import Any, cast

from sandbox.commands import run
from sandbox.layout import Sandbox
from sandbox.parts import local_prometheus, prometheus


def sandbox_in(folder: Path, **environ: str) -> Sandbox:
    return Sandbox.from_environment({"IGNITION_SANDBOX": str(folder), **environ})


def test_prometheus_itself_finds_its_configuration_good(tmp_path: Path) -> None:
    scrape = prometheus.scrape(sandbox_in(tmp_path / ".sandbox"))
    local_prometheus.write_configuration(tmp_path, [scrape], often="1s")

    assert "SUCCESS" in run(["promtool", "check", "config", tmp_path / "prometheus.yml"])


def test_an_environment_is_named_by_its_project_and_another_sandbox_is_left_out(
    tmp_path: Path,
) -> None:
    ours, other = sandbox_in(tmp_path / ".sandbox"), sandbox_in(tmp_path / ".sandbox-test")
    rules = cast("list[dict[str, Any]]", prometheus.scrape(ours)["relabel_configs"])
    kept = [rule["regex"] for rule in rules if rule.get("action") == "keep"]
    (named,) = (rule["regex"] for rule in rules if rule.get("target_label") == "environment")

    for environment in ours.environments:
        assert re.fullmatch(kept[1], environment.project)
        found = re.fullmatch(named, environment.project)
        assert found is not None
        assert found[1] == environment.name
    assert not any(re.fullmatch(kept[1], environment.project) for environment in other.environments)
    assert re.fullmatch(kept[0], ours.network)
    assert not re.fullmatch(kept[0], other.network)


def test_it_asks_the_engine_that_the_sandbox_is_on(tmp_path: Path) -> None:
    far = sandbox_in(tmp_path / ".sandbox", DOCKER_HOST="tcp://10.77.0.11:2376")
    (found,) = cast("list[dict[str, Any]]", prometheus.scrape(far)["docker_sd_configs"])

    assert found["host"] == "tcp://10.77.0.11:2376"

"""Peers, each in an environment of its own: their dependencies fit neither each other nor ours."""

import json
import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qsopt.errors import InputError
from qsopt.files import write_text

ROOT = Path(__file__).parents[2]
"""From where scripts find what they share."""


@dataclass(frozen=True)
class Peer:
    """A tool that answers some of the same questions."""

    name: str
    distribution: str
    """On PyPI."""
    install: str
    """What pip is given."""
    script: str
    """Of `probes`, what asks it in its environment, without `ask_`."""


PEERS = {
    peer.name: peer
    for peer in (
        Peer("aiconfigurator", "aiconfigurator", "aiconfigurator==0.12.0", "aiconfigurator"),
        Peer("genz", "genz-llm", "genz-llm==0.0.16", "genz"),
        Peer(
            "llm-analysis",
            "llm-analysis",
            "llm-analysis==0.2.2 transformers==4.30.2",
            "llm_analysis",
        ),
        Peer("ridgepoint", "ridgepoint", "ridgepoint==0.1.2", "ridgepoint"),
    )
}


@dataclass(frozen=True)
class Installed:
    """A peer that can be asked."""

    peer: Peer
    python: Path
    """Interpreter of its environment."""
    version: str

    def ask(self, what: str, **question: Any) -> Any:
        """Its answer; a `config` is also put into a folder, as some take no other.

        Raises:
            InputError: if its script ends with an error.
        """
        with tempfile.TemporaryDirectory() as folder:
            if "config" in question:
                write_text(Path(folder) / "config.json", json.dumps(question["config"]))
            program = f"from experiments.peers.probes.ask_{self.peer.script} import main; main()"
            done = subprocess.run(
                [str(self.python), "-c", program],
                input=json.dumps({"ask": what, "folder": folder, **question}),
                capture_output=True,
                text=True,
                check=False,
                cwd=ROOT,
                env={**os.environ, "HF_HUB_OFFLINE": "1"},
            )
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise InputError(f"{self.peer.name} {self.version} on '{what}': {last}")
        return json.loads(done.stdout.splitlines()[-1])


def installed(peer: Peer, python: Path) -> Installed:
    """A peer in the environment of an interpreter.

    Raises:
        InputError: if there is no such interpreter, or its environment lacks the peer.
    """
    if not (python.is_file() and os.access(python, os.X_OK)):
        raise InputError(
            f"--{peer.name} {python}: no interpreter there; make an environment with "
            f"`python3.11 -m venv FOLDER`, install with `FOLDER/bin/pip install {peer.install}`, "
            "and give FOLDER/bin/python"
        )
    program = f"from importlib.metadata import version; print(version({peer.distribution!r}))"
    found = subprocess.run(
        [str(python), "-c", program], capture_output=True, text=True, check=False
    )
    if found.returncode != 0:
        raise InputError(
            f"--{peer.name} {python}: its environment has no {peer.distribution}; install it with "
            f"`{python} -m pip install {peer.install}`"
        )
    return Installed(peer, python, found.stdout.strip())

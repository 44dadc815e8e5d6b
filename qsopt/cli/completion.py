"""`qsopt completion`: a script that completes commands, options and names in a shell.

The script holds all names, so that a press of the tab key starts no Python.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import tyro

from qsopt.catalog.accelerators import accelerator_names
from qsopt.catalog.efficiencies import KERNELS
from qsopt.catalog.models import model_names
from qsopt.cli.help import options
from qsopt.fitted.expected import SOFTWARE
from qsopt.quality import laws

_MODELS = ("--model", "--dense", "--draft", "--like", "--quality-of", "propose --from")
"""Options that take a model."""

_ZSH = "autoload -U +X bashcompinit && bashcompinit\n"

_SCRIPT = """_qsopt() {{
    local word="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD-1]}}"
    local command="${{COMP_WORDS[1]}}" words="" counted=""
    case "$command $before" in
{values}
    esac
    if [[ "$before" == --cluster ]]; then
        [[ "$word" =~ ^([0-9]+x)+ ]] && counted="${{BASH_REMATCH[0]}}"
        COMPREPLY=( $(compgen -P "$counted" -W "{accelerators}" -- "${{word#"$counted"}}") )
    elif [[ -n "$words" ]]; then
        COMPREPLY=( $(compgen -W "$words" -- "$word") )
    elif [[ $COMP_CWORD -eq 1 ]]; then
        COMPREPLY=( $(compgen -W "{commands}" -- "$word") )
    else
        case "$command" in
{options}
        esac
        COMPREPLY=( $(compgen -W "$words" -- "$word") )
    fi
}}
complete -o default -F _qsopt qsopt"""


@dataclass(frozen=True)
class Completion:
    """Print a script that completes commands, options, models, accelerators and laws in a shell."""

    shell: Annotated[Literal["bash", "zsh"], tyro.conf.Positional]
    """bash or zsh: source what is printed, or write it where your shell looks for completions."""

    def run(self) -> None:
        """Print the script."""
        print((_ZSH if self.shell == "zsh" else "") + script())


def script() -> str:
    """The completions as a script of bash."""
    from qsopt.cli.commands import COMMANDS, load  # noqa: PLC0415  (which names this module)

    kinds = {name: load(name) for name in COMMANDS}
    return _SCRIPT.format(
        values="\n".join(_values(kinds)),
        accelerators=" ".join(accelerator_names()),
        commands=" ".join(kinds),
        options="\n".join(
            f'        {name}) words="{" ".join(_offered(kind))}" ;;' for name, kind in kinds.items()
        ),
    )


def _offered(kind: Any) -> list[str]:
    """What may follow a command: its options, and the choices of what stands without a name."""
    every = [each for each in options(kind) if "--help" not in each.names]
    named = [name for each in every for name in each.names if name.startswith("--")]
    return [*named, *(word for each in every if each.written[0] == "{" for word in each.choices)]


def _values(kinds: dict[str, Any]) -> list[str]:
    """Lines of a case over command and option: the values that the option takes."""
    models, known = " ".join(model_names()), " ".join(laws())
    wanted = "|".join(f'"{name}"' if " " in name else f'*" {name}"' for name in _MODELS)
    lines = [
        f'        {wanted}) words="{models}" ;;',
        f'        *" --law") words="{known} all" ;;',
        f'        *" --efficiency") words="ideal fitted {KERNELS} {" ".join(SOFTWARE)}" ;;',
    ]
    for name, kind in kinds.items():
        for each in options(kind):
            if each.choices and each.names[0].startswith("--"):
                choices = " ".join(each.choices)
                lines.append(f'        "{name} {each.names[0]}") words="{choices}" ;;')
    return lines

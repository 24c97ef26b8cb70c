"""Completion of ``siirl`` in a shell: commands, options, names of configs, config keys and their values."""

import argparse
import sys
from collections.abc import Sequence

BASH = r"""
_siirl() {
    local line=${COMP_LINE:0:COMP_POINT} word
    local -a words
    read -ra words <<<"$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    local current=${words[${#words[@]} - 1]}
    # readline takes = and : for the ends of words, and replaces what follows the last of them
    local kept=${current%"${current##*[=:]}"}
    COMPREPLY=()
    while IFS=$'\t' read -r word _; do
        COMPREPLY+=("${word#"$kept"}")
    done < <(siirl completion --words "${words[@]:1}" 2>/dev/null)
    [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *[=.] ]] && compopt -o nospace
    return 0
}
complete -o default -F _siirl siirl
"""
ZSH = r"""
#compdef siirl
_siirl() {
    local line word
    local -a whole begun
    for line in "${(@f)$(siirl completion --words "${(@)words[2,CURRENT]}" 2>/dev/null)}"; do
        word=${line%%$'\t'*}
        [[ -n $word ]] || continue
        if [[ $word == *[=.] ]]; then
            begun+=("${word//:/\\:}:${line#*$'\t'}")
        else
            whole+=("${word//:/\\:}:${line#*$'\t'}")
        fi
    done
    if ((${#whole} + ${#begun} == 0)); then
        [[ ${words[CURRENT]} == *=* ]] && compset -P '*='
        _files
        return
    fi
    _describe -t begun 'setting' begun -S ''
    _describe -t whole 'word' whole
}
compdef _siirl siirl
"""
FISH = r"""
function __siirl_words
    set -l words (commandline -opc) "$(commandline -ct)"
    siirl completion --words $words[2..-1] 2>/dev/null
end
complete -c siirl -f -n 'count (__siirl_words) >/dev/null' -a '(__siirl_words)'
"""
SHELLS = {"bash": BASH, "zsh": ZSH, "fish": FISH}
WORDS = "--words"
"""The first argument of a script's call; the half-typed line's words follow, without ``siirl``."""
INSTALL = """\
to have it in every new shell:
  bash   echo 'eval "$(siirl completion bash)"' >> ~/.bashrc
  zsh    echo 'autoload -U compinit && compinit && eval "$(siirl completion zsh)"' >> ~/.zshrc
  fish   siirl completion fish > ~/.config/fish/completions/siirl.fish
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Print a shell's script or, as these scripts ask with `WORDS`, how a half-typed line may go on; returns the exit code 0."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == [WORDS]:
        from siirl.client.candidates import candidates  # it needs the table of shells

        for word, about in candidates(arguments[1:] or [""]).items():
            print(f"{word}\t{' '.join(about.split())}")
        return 0
    parser = argparse.ArgumentParser(
        "siirl completion", description=__doc__, epilog=INSTALL, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("shell", choices=SHELLS, help="the shell to print a script for")
    print(SHELLS[parser.parse_args(arguments).shell].strip())
    return 0

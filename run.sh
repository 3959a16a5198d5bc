#!/usr/bin/env bash
# One entry for everything; `./run.sh help` lists the commands. All state is kept under var/.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

usage() {
    cat <<'TEXT'
./run.sh [RunAll's options]   download, validate and store the universe (--tickers AAPL,MSFT --groupings dax
                              --date 2026-11-20 --years-back 10 --ticker-limit 5; luigi's own options, too)
./run.sh demo                 the same over recorded prices, without the network
./run.sh up | down            start, stop PostgreSQL and luigid
./run.sh status               how they are, what is running, and how the last runs went
./run.sh retry [--kind KIND]  run again what failed and is not done since, and nothing else
./run.sh accept TICKER...      take a history that was held back as another security's, in place of the stored one
./run.sh tickers list | add TICKER... --grouping NAME | remove TICKER...   what config/universe.yaml lists
./run.sh check [--offline]    whether a run has all that it needs (--yahoo: whether Yahoo's answers are as they were)
./run.sh upgrade-yahoo [--to VERSION]   a newer yfinance, if all that is needed of it works with it
./run.sh plan [the same]      what a run would do: tickers by state, requests, time; nothing is asked of Yahoo
./run.sh forget TICKER        delete all that is stored of a ticker, so that the next run loads it anew
./run.sh export [options]     prices, company data and universe as parquet or CSV files; --help says more
./run.sh compare PATH         stored bars against a vendor's files, disagreements by kind; --help says more
./run.sh report               the last run's summary, and where its page is
./run.sh data-docs [--run RUN] [--tickers A,B | --all]   Great Expectations' pages on a run's bars
./run.sh late [--hours 30]     tell, and exit with 1, if no run of the universe has ended lately, or one failed newly
./run.sh metrics [--output FILE]  figures for Prometheus, of what is stored and of the last run of the universe
./run.sh psql [psql's options]
./run.sh backup FILE          all tables into one file, also while a run goes on
./run.sh restore FILE         an empty database from such a file (--replace: one that is not)
./run.sh migrate              make the tables, or bring them to this version; for their owner, where runs may not
./run.sh roles [--help]       make a role that runs write with, and one that only reads
./run.sh test [pytest's options]
./run.sh benchmark [--help]   how fast it is, next to what people do today
./run.sh crashes [--help]     runs that are killed at random moments, and what must hold all the same
./run.sh completion bash | zsh | fish   for your shell; ./run.sh COMMAND --help says more of each command
./run.sh help
DATABASE_URL=postgresql://user:password@host/database uses a PostgreSQL of yours instead of the embedded one.
TEXT
}

say() { printf '%s\n' "$*" >&2; }
fail() { say "error: $*"; exit 1; }

find_python() {
    local candidate
    for candidate in "${PYTHON:-}" python3 python3.14 python3.13 python3.12 python3.11; do
        [ -n "$candidate" ] && command -v "$candidate" >/dev/null 2>&1 || continue
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            printf '%s' "$candidate"
            return
        fi
    done
    fail "Python 3.11 or later is needed; found $(python3 --version 2>&1 || echo none). Name one with PYTHON=/path/to/python."
}

# Makes the environment, with the given extras, unless it is there for exactly these files.
environment() {
    local extras=$1 stamp wanted python
    stamp="var/venv/.installed-$extras"
    wanted=$(cat setup.cfg pyproject.toml constraints.txt | cksum)
    if [ -x var/venv/bin/luigi ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
        return
    fi
    python=$(find_python)
    mkdir -p var 2>/dev/null || fail "$PWD/var cannot be written. Check permissions."
    if ! var/venv/bin/python -m pip --version >/dev/null 2>&1; then
        say "making the environment in var/venv (a minute or so, once) ..."
        "$python" -m venv --clear var/venv >&2 || fail "python cannot make an environment. On Debian: apt-get install python3-venv."
    fi
    say "installing ($extras) ..."
    var/venv/bin/python -m pip install --quiet --disable-pip-version-check \
        --constraint constraints.txt --editable ".[$extras]" ||
        fail "installing failed; the lines above say why. The package index must be reachable."
    printf '%s' "$wanted" >"$stamp"
}

# `. var/venv/bin/activate` is for people; scripts get by with PATH.
export PATH="$PWD/var/venv/bin:$PATH"
export GX_ANALYTICS_ENABLED=false

# A shell that wants to complete a command line must neither wait for an installation nor see its words.
if [ -n "${_RUN_SH_COMPLETE:-}" ]; then
    if [ -x var/venv/bin/python ]; then exec var/venv/bin/python -m luigi_tasks.cli; fi
    exit 0
fi

case "${1:-}" in
help | -h | --help) usage ;;
demo)
    shift
    environment demo
    export LUIGI_CONFIG_PATH=config/demo.cfg
    python -m luigi_tasks.cli up --quiet
    exec luigi --module luigi_tasks RunAll --workers 20 --date 2010-08-20 --years-back 1 "$@"
    ;;
plan | data-docs | accept)
    environment demo
    python -m luigi_tasks.cli up --quiet
    exec python -m luigi_tasks.cli "$@"
    ;;
upgrade-yahoo)
    environment demo,test
    exec python -m luigi_tasks.cli "$@"
    ;;
up | down | status | report | late | metrics | psql | forget | export | compare | retry | tickers | check | completion | backup | restore | migrate | roles)
    environment demo
    exec python -m luigi_tasks.cli "$@"
    ;;
test)
    shift
    environment demo,test
    exec python -m pytest "$@"
    ;;
benchmark)
    shift
    environment demo,test,benchmark
    exec python -m benchmarks "$@"
    ;;
crashes)
    shift
    environment demo,test
    exec python -m crashes "$@"
    ;;
"" | -*)
    environment demo
    python -m luigi_tasks.cli up --quiet
    exec luigi --module luigi_tasks RunAll --workers 20 "$@"
    ;;
*)
    usage >&2
    fail "there is no command '$1'"
    ;;
esac

#!/usr/bin/env bash
# One entry for everything; `./run.sh help` lists the commands. All state is kept under var/.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

usage() {
    cat <<'TEXT'
./run.sh [RunAll's options]   download, validate and store the universe (--tickers AAPL,MSFT --groupings dax
                              --date 2026-11-20 --years-back 10 --ticker-limit 5; luigi's own options, too)
./run.sh demo                 the same over recorded prices, without the network
./run.sh up | down | status   start, stop, look at PostgreSQL and luigid
./run.sh plan [the same]      what a run would do: tickers by state, requests, time; nothing is asked of Yahoo
./run.sh forget TICKER        delete all that is stored of a ticker, so that the next run loads it anew
./run.sh export [options]     prices, company data and universe as parquet or CSV files; --help says more
./run.sh report               the last run's summary, and where its page is
./run.sh psql [psql's options]
./run.sh test [pytest's options]
./run.sh benchmark [--help]   how fast it is, next to what people do today
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

case "${1:-}" in
help | -h | --help) usage ;;
demo)
    shift
    environment demo
    export LUIGI_CONFIG_PATH=config/demo.cfg
    python -m luigi_tasks.cli up --quiet
    exec luigi --module luigi_tasks RunAll --workers 20 --date 2010-08-20 --years-back 1 "$@"
    ;;
plan)
    environment demo
    python -m luigi_tasks.cli up --quiet
    exec python -m luigi_tasks.cli "$@"
    ;;
up | down | status | report | export | psql | forget)
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

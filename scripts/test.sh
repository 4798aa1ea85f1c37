#!/usr/bin/env bash
# Everything that must hold, step after step; a failed step does not keep the next ones from running.
# Closes with one line for each step, and a last line that counts the tests. Exits 1 when anything failed.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
. scripts/lib.sh

results=build/test
rows=()
passed=0
failed=0
skipped=0
broken=0

# step NAME COMMAND... : runs it, remembers how it ended and how long it took
step() {
    local name=$1 began=$SECONDS verdict=ok
    shift
    printf '\n== %s\n' "$name"
    "$@" </dev/null || {
        verdict=FAILED
        broken=1
    }
    rows+=("$(printf '  %-12s %-7s %4d s' "$name" "$verdict" $((SECONDS - began)))")
}

# suite NAME LIMIT MARKERS OPTION... : one run of pytest, ended after LIMIT whatever happens, and its counts
suite() {
    local name=$1 limit=$2 markers=$3 report=$results/$1.xml
    shift 3
    step "$name" timeout --foreground --signal=INT --kill-after=60 "$limit" \
        .venv/bin/python -m pytest -m "$markers" --junit-xml="$report" -o junit_suite_name="$name" "$@"
    local tests errors failures skips
    tests=$(count tests "$report")
    errors=$(count errors "$report")
    failures=$(count failures "$report")
    skips=$(count skipped "$report")
    passed=$((passed + tests - errors - failures - skips))
    failed=$((failed + errors + failures))
    skipped=$((skipped + skips))
    rows[-1]+="   $((tests - errors - failures - skips)) passed, $((errors + failures)) failed, $skips skipped"
}

# count WHAT REPORT : an attribute of the report's testsuite element, 0 when there is no report
count() {
    local number
    number=$(sed -n "s/.*<testsuite [^>]*\\b$1=\"\\([0-9]*\\)\".*/\\1/p" "$2" 2>/dev/null | head -n 1)
    echo "${number:-0}"
}

# The suite in the VM lab, or one line that says why there can be none on this machine.
lab_suite() {
    local reason
    printf '\n== lab\n'
    reason=$({ .venv/bin/python -m lab build >&3 3>&-; } 2>&1 </dev/null)
    case $? in
        # In order: the files share three machines, and what fails after many minutes must be found again.
        0) suite lab 50m "lab and not lab_full" -p no:randomly ;;
        77) rows+=("  lab          not run: ${reason#lab: }") ;;
        *)
            printf '%s\n' "$reason"
            rows+=("$(printf '  %-12s %-7s' lab FAILED)")
            broken=1
            ;;
    esac
}

exec 3>&1 # for what is shown while something else is read
began=$SECONDS
rm -rf "$results"
step set-up scripts/setup.sh --install-packages
[ "$broken" -eq 0 ] || exit 1
mkdir -p "$results"
raise_open_files
step check scripts/check.sh
suite fast 15m "not slow and not lab"
suite slow 40m "slow and not lab"
lab_suite

printf '\n== weft %s, %s, %s\n' "$(.venv/bin/python -c 'import weft; print(weft.__version__)')" \
    "$(.venv/bin/python -V)" "$(. /etc/os-release 2>/dev/null && echo "${PRETTY_NAME:-Linux}")"
printf '%s\n' "${rows[@]}"
if [ "$broken" -eq 0 ]; then
    printf '  everything holds, after %d s\n' $((SECONDS - began))
else
    printf '  NOT everything holds: what failed is shown above, in the step that says FAILED\n'
fi
printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
exit "$broken"

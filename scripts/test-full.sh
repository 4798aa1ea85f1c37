#!/usr/bin/env bash
# Every test file by itself, with the thorough profile of hypothesis. A file that passed is not run again until
# something changes, so that an interrupted run goes on where it stopped. Arguments go to pytest. Exits 1 when a file failed.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
. scripts/lib.sh

state=$(find src tests demo lab requirements pyproject.toml -type f ! -name '*.pyc' -print0 2>/dev/null |
    sort -z | xargs -0 sha256sum | sha256sum | cut -c 1-16)
results=build/test-full/$state
mkdir -p "$results"
raise_open_files

failed=()
exec 3>&1 # for what is shown while something else is read

# one_file FILE ARGUMENT... : one run of pytest, unless the file has passed in this state already
one_file() {
    local file=$1 done_mark=$results/${1//\//_}
    shift
    [ -e "$done_mark" ] && say "passed before: $file" && return
    say "== $file"
    timeout --foreground --signal=INT --kill-after=60 2h .venv/bin/python -m pytest "$@" "$file" </dev/null
    case $? in
        0 | 5) touch "$done_mark" ;; # 5: an argument deselected all of it
        *) failed+=("$file") ;;
    esac
}

while IFS= read -r file; do
    one_file "$file" --hypothesis-profile=thorough -o timeout=1800 -m "not lab" "$@"
done < <(find tests -path tests/lab -prune -o -name 'test_*.py' -print | sort)

without_lab=
if reason=$({ .venv/bin/python -m lab build >&3 3>&-; } 2>&1 </dev/null); then
    while IFS= read -r file; do
        one_file "$file" -m lab "$@"
    done < <(find tests/lab -name 'test_*.py' | sort)
elif [ $? -eq 77 ]; then
    without_lab=", but without the VM lab: ${reason#lab: }"
else
    failed+=("the VM lab ($reason)")
fi

[ ${#failed[@]} -eq 0 ] || die "failed: ${failed[*]}"
say "Every test file passed with thorough examples$without_lab"

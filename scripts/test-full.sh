#!/usr/bin/env bash
# Every test file by itself, with the thorough profile of hypothesis. A file that passed is not run again until
# something changes, so that an interrupted run goes on where it stopped. Arguments go to pytest. Exits 1 when a file failed.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
. scripts/lib.sh

state=$(find src tests demo requirements pyproject.toml -type f ! -name '*.pyc' -print0 2>/dev/null |
    sort -z | xargs -0 sha256sum | sha256sum | cut -c 1-16)
results=build/test-full/$state
mkdir -p "$results"
raise_open_files

failed=()
while IFS= read -r file; do
    done_mark=$results/${file//\//_}
    [ -e "$done_mark" ] && say "passed before: $file" && continue
    say "== $file"
    timeout --foreground --signal=INT --kill-after=60 2h .venv/bin/python -m pytest --hypothesis-profile=thorough -o timeout=1800 \
        -m "not lab" "$@" "$file" </dev/null
    case $? in
        0 | 5) touch "$done_mark" ;; # 5: nothing here but tests for the lab
        *) failed+=("$file") ;;
    esac
done < <(find tests -name 'test_*.py' | sort)

[ ${#failed[@]} -eq 0 ] || die "failed: ${failed[*]}"
say "Every test file passed with thorough examples"

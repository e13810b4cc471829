# Prints the first Python, of those named or else of those on the path, that Worldlens runs on; otherwise says what it found.
found=""
for candidate in ${*:-python3.11 python3.12 python3 python}; do
    version=$("$candidate" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue
    case "$version" in
        3.11|3.12) echo "$candidate"; exit 0 ;;
    esac
    found="$found $candidate is Python $version;"
done
echo "Worldlens needs Python 3.11 or 3.12 (Procgen has wheels for no other); found:${found:- none}" >&2
echo "Install one, or name it: make PYTHON=path/to/python3.11" >&2
exit 1

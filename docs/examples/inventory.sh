#!/usr/bin/env bash
# A step in bash: a list of all files of the input with their sizes and SHA-256, for an archive.
set -euo pipefail

in=${EARTHSELF_STEP_INPUT:?} out=${EARTHSELF_STEP_OUTPUT:?} pattern='*'
finish() { # finish EXIT_CODE STATUS MESSAGE [COUNT]: the result document, then the end
  if [ -n "${EARTHSELF_STEP_RESULT:-}" ]; then
    printf '{"status": "%s", "outputs": %d, "message": "%s", "metrics": {"files": %d}, "warnings": []}\n' \
      "$2" "$((${4:-0} > 0))" "$3" "${4:-0}" > "$EARTHSELF_STEP_RESULT"
  fi
  [ "$1" -eq 0 ] || echo "error: $3" >&2
  exit "$1"
}
while [ $# -gt 0 ]; do
  case $1 in
    --pattern) pattern=${2:?--pattern needs a value}; shift 2 ;;
    *) finish 65 failed "unknown parameter $1; inventory knows --pattern" ;;
  esac
done
[ -f "$in/catalog.json" ] || finish 65 failed "the input has no catalog.json"

mkdir -p "$out"
part=$(mktemp "$out/.inventory.XXXXXX") # beside its place, so that mv is one rename
trap 'rm -f "$part"' EXIT               # leaves no half-written file, whether it ends or is ended
trap 'exit 143' TERM
echo 'path,bytes,sha256' > "$part"
count=0
cd "$in"
while IFS= read -r -d '' file; do
  count=$((count + 1))
  echo "progress 0.5 $count files" >&2
  { stat -L --printf '"%n",%s,' "$file"; sha256sum < "$file" | cut -d ' ' -f 1; } >> "$part"
done < <(find -L . -type f -name "$pattern" -printf '%P\0' | sort -z)

if [ "$count" -eq 0 ]; then
  echo '{"type": "Catalog", "stac_version": "1.1.0", "id": "inventory", "description": "no file", "links": []}' > "$out/catalog.json"
  finish 0 nothing "no file matches the pattern"
fi
mv "$part" "$out/inventory.csv"
cat > "$out/inventory.json" <<EOF
{"type": "Feature", "stac_version": "1.1.0", "id": "inventory", "geometry": null,
 "properties": {"datetime": "$(date -u +%Y-%m-%dT%H:%M:%SZ)"}, "links": [{"rel": "root", "href": "./catalog.json"}],
 "assets": {"inventory": {"href": "./inventory.csv", "type": "text/csv", "roles": ["metadata"]}}}
EOF
cat > "$out/catalog.json" <<'EOF'
{"type": "Catalog", "stac_version": "1.1.0", "id": "inventory", "description": "Files with their checksums",
 "links": [{"rel": "item", "href": "./inventory.json", "type": "application/geo+json"}]}
EOF
finish 0 done "$count files listed" "$count"

#!/bin/sh
# Counts the instructions of the functions that run for every datagram, and fails if one needs a tenth
# more than is written down here. Needs valgrind; x86-64. Usage: instructions.sh, in the repository.
set -eu
bench=$(cargo bench -p mdalp-bench --bench hot --no-run 2>&1 | sed -n 's/.*(\(.*hot-.*\))/\1/p')

# The instructions of so many calls, with what starting costs.
count() {
    valgrind --tool=callgrind --callgrind-out-file=/dev/null "$bench" --count "$1" "$2" 2>&1 |
        sed -n 's/.*Collected : //p'
}

status=0
while read -r name limit; do
    each=$((($(count "$name" 300) - $(count "$name" 100)) / 200))
    verdict=ok
    if [ $((each * 10)) -gt $((limit * 11)) ]; then
        verdict="more than $limit"
        status=1
    fi
    echo "$name $each $verdict"
done <<EOF
decode_chunk 530
encode_ack 482
receiver_chunk 1985
store_append_256 270248
split_1000_receivers 256630
EOF
exit $status

#!/bin/sh
# Run nvcc (the arguments); write what ptxas says of the kernels into OBJECT.ptxas, and show everything else.
object= previous=
for argument; do
  [ "$previous" = -o ] && object=$argument
  previous=$argument
done
"$@" 2>"$object.ptxas"
status=$?
grep -vE '^ptxas info|^ +[0-9]+ bytes (stack frame|cumulative)' "$object.ptxas" >&2
exit $status

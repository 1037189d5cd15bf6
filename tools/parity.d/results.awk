#!/usr/bin/awk -f
# The results in the output of one program, a line each: outcome, tab, test; for a
# skip also a tab and the reason: what is behind # SKIP, or the last line.
# Reads KTAP, TAP (an "ok" that sums up the lines above it is not a test) and what
# Redis' runtest prints; a plan that is not met and, from -v rc=N, the exit status
# are one more each.
# Numbers in names that change from run to run (addresses, process ids) become N.

function plain_text(s) {
	gsub(/\t/, " ", s)
	gsub(/\033\[[0-9;]*m/, "", s)
	sub(/^[ -]+/, "", s)
	sub(/[ ]+$/, "", s)
	return s
}

function put(outcome, name, reason) {
	gsub(/0x[0-9a-fA-F]+/, "N", name)
	gsub(/[0-9][0-9][0-9][0-9][0-9]+/, "N", name)
	name = plain_text(name)
	if (name == "")
		name = "unnamed"
	if (seen[name]++)
		name = name " [" seen[name] "]"
	print outcome "\t" name (outcome == "skip" ? "\t" plain_text(reason) : "")
}

{ sub(/\r$/, "") }
!/^ *(#|$)/ { last = $0 }

/^ *(not )?ok([ \t]|$)/ {
	match($0, /^ */)
	depth = RLENGTH
	sums_up = (previous > depth)
	previous = depth
	ran[depth]++
	if (sums_up && !/^ *not ok/)
		next
	line = substr($0, depth + 1)
	outcome = line ~ /^not/ ? "not ok" : "ok"
	sub(/^(not )?ok[ \t]*/, "", line)
	sub(/^[0-9]+/, "", line)
	reason = line
	if (match(tolower(line), /# *skip[a-z]*[: ]*/)) {
		outcome = "skip"
		reason = substr(line, RSTART + RLENGTH)
	} else if (tolower(line) ~ /# *(xfail|todo)/)
		outcome = "xfail"
	comment = line
	sub(/[ \t]*#.*/, "", line)
	if (line ~ /^[ -]*$/) {		# kselftest.h has the name behind # SKIP
		line = comment
		sub(/^[^#]*# *[A-Za-z]*[: ]*/, "", line)
	}
	put(outcome, line, reason)
}

/^ *1\.\.[0-9]+/ {
	match($0, /^ */)
	planned[RLENGTH] += substr($0, RLENGTH + 4)
}

/^Bail out!/ { put("not ok", "bail out") }

# [ok]: name (12 ms), [err]: name in tests/...
{ plain = $0; gsub(/\033\[[0-9;]*m/, "", plain) }
plain ~ /^\[(ok|err|exception|timeout|ignore|skip)\]: / {
	outcome = plain
	sub(/^\[/, "", outcome)
	sub(/\].*/, "", outcome)
	sub(/^\[[a-z]+\]: /, "", plain)
	sub(/ \([0-9]+ ms\)$/, "", plain)
	sub(/ in tests\/.*/, "", plain)
	put(outcome == "ok" ? "ok" : outcome ~ /ignore|skip/ ? "skip" : "not ok", plain)
}

END {
	for (depth in planned)
		if (planned[depth] != ran[depth] + 0)
			put("not ok", "plan")
	print (rc == 0 ? "ok" : rc == 4 ? "skip" : rc == 137 ? "timeout" : "exit " rc) "\texit status" (rc == 4 ? "\t" plain_text(last) : "")
}

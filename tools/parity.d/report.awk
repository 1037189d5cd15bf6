#!/usr/bin/awk -f
# Compares the results of the guests, test by test, and prints table and list.
#   report.awk -v json=FILE -v dir=OUT -v denylist=FILE -v env=JSON-MEMBERS SUITE...
# A test is the same if it had one outcome, with 0 and with 2. If it had several
# with 0 alone, and none with 2 that it did not have with 0, it is flaky; also if with 2
# all forks of its program were too small to be asynchronous, so that nothing differed.
# A test that fails or is skipped in the same way with both is shown, skips with
# their reason, a line per program and reason. With results of a kernel
# without the feature (mode u), those with 0 are compared with them, too.
# Exit status 1: a difference that nothing explains, a program that crashed, could not
# be run or reached its limit each time, no asynchronous fork unless all is skipped,
# an incomplete suite.

BEGIN {
	FS = "\t"
	while ((getline line < denylist) > 0) {
		if (line ~ /^#/ || (i = index(line, "  # ")) == 0)
			continue
		deny[++denies] = substr(line, 1, i - 1)
		why[denies] = substr(line, i + 4)
		sub(/[ \t]+$/, "", deny[denies])
		for (j = index(deny[denies], " = "); (i = index(substr(deny[denies], j + 1), " = ")) > 0; )
			j += i
		if (j == 0) {
			printf "failed: DENYLIST: no outcomes: %s\n", line
			bad = 1
		}
		may[denies] = "|" substr(deny[denies], j + 3) "|"
		deny[denies] = substr(deny[denies], 1, j - 1)
	}
	row = "%-10s %7s %7s %9s %9s %7s %7s  %s\n"
	printf row, "suite", "tests", "same", "different", "explained", "failing", "skipped", "async forks"
	printf "{%s,\n \"suites\": [", env > json
	for (n = 1; n < ARGC; n++)
		suite(ARGV[n], dir "/" ARGV[n])
	printf "\n]}\n" > json
	printf "%s", list
	for (n = 1; n <= denies; n++) {
		split(deny[n], w, " ")
		if ((w[1] in had) && !used[n])
			printf "DENYLIST: matches nothing: %s\n", deny[n]
	}
	printf "%s", verdicts
	exit bad
}

function quote(s) {
	gsub(/\\/, "\\\\", s)
	gsub(/"/, "\\\"", s)
	gsub(/[\001-\037]/, " ", s)
	return "\"" s "\""
}

# Does the shell pattern P match S? Only * is special.
function matches(s, p,   i, part, m) {
	m = split(p, part, "*")
	if (m == 1)
		return s == p
	if (substr(s, 1, length(part[1])) != part[1])
		return 0
	s = substr(s, length(part[1]) + 1)
	for (i = 2; i < m; i++) {
		if ((j = index(s, part[i])) == 0)
			return 0
		s = substr(s, j + length(part[i]))
	}
	return length(s) >= length(part[m]) && substr(s, length(s) - length(part[m]) + 1) == part[m]
}

# "3 ok, 1 not ok" of one mode; counts kinds.
function outcomes(key, mode, item,   o, text, seen, k) {
	kinds = 0
	for (k = 1; k <= nkind; k++)
		if (c = count[key, mode, kind[k]]) {
			text = text (kinds++ ? ", " : "") c " " kind[k]
			seen += c
		}
	if (seen < runs[item, mode])
		text = text (kinds++ ? ", " : "") (runs[item, mode] - seen) " missing"
	return text
}

# Has mode A an outcome that mode B did not have?
function more_in(a, b, key, item,   k, seen_a, seen_b) {
	for (k = 1; k <= nkind; k++) {
		seen_a += count[key, a, kind[k]]
		seen_b += count[key, b, kind[k]]
		if (count[key, a, kind[k]] && !count[key, b, kind[k]])
			return 1
	}
	return seen_a < runs[item, a] && seen_b == runs[item, b]
}

# Does DENYLIST name the test, and every outcome that it had? Sets reason.
function listed(name, key, all,   k, i, m, o) {
	m = split(all, o, /, /)
	for (k = 1; k <= denies; k++) {
		if (!matches(name " " where[key] ": " what[key], deny[k]))
			continue
		used[k]++
		for (i = 1; i <= m; i++) {
			sub(/^[0-9]+ /, "", o[i])
			if (!index(may[k], "|" o[i] "|"))
				return 0
		}
		reason = why[k]
		return 1
	}
	return 0
}

# Is each of these exit statuses one that says nothing: killed by a signal, not
# found, endless?
function broken(all,   i, m, o) {
	m = split(all, o, /, /)
	for (i = 1; i <= m; i++) {
		sub(/^[0-9]+ /, "", o[i])
		if (o[i] != "timeout" && !(o[i] ~ /^exit / && substr(o[i], 6) + 0 >= 124))
			return 0
	}
	return 1
}

# A test that is skipped with both: one line per program and reason.
function skip(key,   s) {
	s = where[key] FS skip_reason[key]
	if (!(s in skip_count)) {
		skip_count[s] = 0
		skips[++nskips] = s
		skip_test[s] = what[key]
	}
	if (what[key] != "exit status") {
		skip_count[s]++
		skip_test[s] = what[key]
		told[where[key]] = 1
	}
}

# The results of one file
function read_results(f, name,   line, key) {
	while ((getline line < f) > 0) {
		split(line, w, FS)
		key = w[1] FS w[5]
		if (!(key in known)) {
			known[key] = 1
			order[++norder] = key
			where[key] = w[1]
			what[key] = w[5]
		}
		if (!(w[4] in iskind)) {
			iskind[w[4]] = 1
			kind[++nkind] = w[4]
		}
		count[key, w[3], w[4]]++
		if (w[5] == "exit status")
			runs[w[1], w[3]]++
		if (w[5] == "exit status" && w[3] == 0)
			if (++items[name, w[1]] == 1)
				nitems[name]++
		if (w[4] == "skip" && !(key in skip_reason))
			skip_reason[key] = w[6] == "" ? "no reason given" : w[6]
	}
	close(f)
}

function suite(name, d,   f, line, k, i, key, o0, o2, ou, k0, verdict, tests, same, different, explained, failing, unpatched, sep, skipped, skipping, was_bad) {
	was_bad = bad
	bad = 0
	split("", count); split("", runs); split("", order); split("", where); split("", what); split("", sum)
	split("", known); split("", large); split("", skip_reason); split("", skips); split("", skip_count)
	split("", told); nskips = 0; nkind = norder = 0; split("", kind); split("", iskind)
	had[name] = 1
	read_results(d "/results", name)
	read_results(d "/unpatched/results", name)
	f = d "/counters"
	while ((getline line < f) > 0) {
		split(line, w, FS)
		sum[w[3], w[4]] += w[5]
		if (w[3] == 2 && (w[4] == "session_start" || w[4] ~ /^fallback_/ && w[4] != "fallback_small"))
			large[w[1]] += w[5]
	}
	close(f)
	printf "%s\n  {\"suite\": %s, \"differences\": [", (n > 1 ? "," : ""), quote(name) > json
	for (i = 1; i <= norder; i++) {
		key = order[i]
		if (!runs[where[key], 0] && runs[where[key], "u"])
			continue
		tests++
		o0 = outcomes(key, 0, where[key]); k0 = kinds
		o2 = outcomes(key, 2, where[key])
		if (count[key, 0, "skip"] == runs[where[key], 0])
			skipped++
		ou = ""
		if (runs[where[key], "u"]) {
			ou = outcomes(key, "u", where[key])
			unpatched++
			if (more_in(0, "u", key, where[key]) && !listed(name, key, o0 ", " ou)) {
				bad = 1
				list = list sprintf("different: %s %s: %s; unpatched %s; with 0 %s: NOT EXPLAINED\n", name, where[key], what[key], ou, o0)
			}
			outcomes(key, 2, where[key])	# kinds of 2 again
		}
		if (what[key] == "exit status" && broken(o0 ", " o2) && !listed(name, key, o0 ", " o2)) {
			bad = 1
			list = list sprintf("failed: %s %s: with 0 %s; with 2 %s\n", name, where[key], o0, o2)
		}
		if (k0 == 1 && kinds == 1 && !more_in(2, 0, key, where[key])) {
			same++
			sub(/^[0-9]+ /, "", o0)
			if (o0 == "skip") {
				skipping++
				skip(key)
			}
			if (o0 ~ /^(ok|skip|xfail|missing)$/)
				continue
			failing++
			list = list sprintf("fails with both: %s %s: %s: %s%s\n", name, where[key], what[key], o0, ou == "" ? "" : "; unpatched " ou)
			fails = fails sprintf("%s\n    {\"item\": %s, \"test\": %s, \"outcome\": %s}", (fails == "" ? "" : ","), quote(where[key]), quote(what[key]), quote(o0))
			continue
		}
		different++
		verdict = reason = ""
		if (listed(name, key, o0 ", " o2))
			verdict = "listed"
		if (verdict == "" && k0 > 1 && !more_in(2, 0, key, where[key])) {
			verdict = "flaky"
			reason = "differs between runs with 0"
		}
		if (verdict == "" && (where[key] in large) && large[where[key]] == 0) {
			verdict = "flaky"
			reason = "all forks with 2 were too small to be asynchronous"
		}
		if (verdict == "") {
			verdict = "different"
			reason = "NOT EXPLAINED"
			bad = 1
		} else {
			explained++
		}
		list = list sprintf("%s: %s %s: %s; with 0 %s; with 2 %s: %s\n", verdict, name, where[key], what[key], o0, o2, reason)
		printf "%s\n    {\"item\": %s, \"test\": %s, \"verdict\": %s, \"with_0\": %s, \"with_2\": %s, \"reason\": %s}",
			sep, quote(where[key]), quote(what[key]), quote(verdict), quote(o0), quote(o2), quote(reason) > json
		sep = ","
	}
	printf "],\n   \"failing\": [%s", fails > json
	fails = ""
	printf "],\n   \"skipped\": [" > json
	sep = ""
	for (i = 1; i <= nskips; i++) {
		split(skips[i], w, FS)
		# What a program's exit status says its tests have said already.
		if (skip_count[skips[i]] == 0 && w[1] in told)
			continue
		line = skip_count[skips[i]] > 1 ? skip_count[skips[i]] " tests" : skip_test[skips[i]]
		list = list sprintf("skips with both: %s %s: %s: %s\n", name, w[1], line, w[2])
		printf "%s\n    {\"item\": %s, \"tests\": %s, \"reason\": %s}", sep, quote(w[1]), quote(line), quote(w[2]) > json
		sep = ","
	}
	printf "],\n   \"tests\": %d, \"same\": %d, \"different\": %d, \"explained\": %d, \"skipped_with_0\": %d, \"compared_with_unpatched\": %d,\n   \"programs\": %d, \"async_forks\": %d, \"forks\": %d, \"async_forks_with_0\": %d,\n   \"counters\": {",
		tests, same, different, explained, skipped, unpatched, nitems[name], sum[2, "session_start"], sum[2, "processes"], sum[0, "session_start"] > json
	sep = ""
	for (k in sum) {
		split(k, w, SUBSEP)
		if (w[1] == 2 && w[2] != "seconds" && w[2] != "processes") {
			printf "%s%s: %d", sep, quote(w[2]), sum[k] > json
			sep = ", "
		}
	}
	printf "},\n   \"seconds\": %d, \"left_out\": [", sum[0, "seconds"] + sum[2, "seconds"] > json
	sep = ""
	f = d "/left-out"
	while ((getline line < f) > 0) {
		split(line, w, FS)
		list = list sprintf("left out: %s %s: %s\n", name, w[1], w[2])
		printf "%s{\"item\": %s, \"reason\": %s}", sep, quote(w[1]), quote(w[2]) > json
		sep = ", "
	}
	close(f)
	problem = ""
	f = d "/problem"
	if ((getline line < f) > 0)
		problem = line
	close(f)
	if (problem == "" && tests == 0)
		problem = "no results"
	if (problem == "" && sum[0, "session_start"] > 0)
		problem = sum[0, "session_start"] " asynchronous forks with 0"
	if (problem == "" && skipping == tests && skip_reason[order[1]] == "no reason given")
		problem = "skipped without a reason"
	if (problem == "" && sum[2, "session_start"] + 0 == 0 && skipping < tests)
		problem = "no asynchronous fork with 2"
	if (problem != "") {
		bad = 1
		list = list sprintf("failed: %s: %s\n", name, problem)
	}
	printf "], \"problem\": %s}", problem == "" ? "null" : quote(problem) > json
	printf row, name, tests + 0, same + 0, different + 0, explained + 0, failing + 0, skipping + 0, sum[2, "session_start"] + 0
	verdicts = verdicts (bad ? "not ok" : "ok") " - " name (!bad && skipping == tests ? " # SKIP " skip_reason[order[1]] : "") "\n"
	bad = bad || was_bad
}

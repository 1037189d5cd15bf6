#!/usr/bin/awk -f
# Compares the results of the guests, test by test, and prints table and list.
#   report.awk -v json=FILE -v dir=OUT -v denylist=FILE -v env=JSON-MEMBERS SUITE...
# A test is the same if it had one outcome, with 0 and with 2. If it had several
# with 0 alone, and none with 2 that it did not have with 0, it is flaky; also if with 2
# all forks of its program were too small to be asynchronous, so that nothing differed.
# Exit status 1: a difference that nothing explains, or an incomplete suite.

BEGIN {
	FS = "\t"
	while ((getline line < denylist) > 0) {
		if (line ~ /^#/ || (i = index(line, "  # ")) == 0)
			continue
		deny[++denies] = substr(line, 1, i - 1)
		sub(/[ \t]+$/, "", deny[denies])
		why[denies] = substr(line, i + 4)
	}
	row = "%-10s %7s %7s %9s %9s  %s\n"
	printf row, "suite", "tests", "same", "different", "explained", "async forks"
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

# Has mode 2 an outcome that mode 0 did not have?
function more_in_2(key, item,   k, seen0, seen2) {
	for (k = 1; k <= nkind; k++) {
		seen0 += count[key, 0, kind[k]]
		seen2 += count[key, 2, kind[k]]
		if (count[key, 2, kind[k]] && !count[key, 0, kind[k]])
			return 1
	}
	return seen2 < runs[item, 2] && seen0 == runs[item, 0]
}

function suite(name, d,   f, line, k, i, o0, o2, k0, verdict, reason, tests, same, different, explained, sep, skipped) {
	split("", count); split("", runs); split("", order); split("", where); split("", what); split("", sum)
	split("", known); split("", large); nkind = norder = 0; split("", kind); split("", iskind)
	had[name] = 1
	f = d "/results"
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
	}
	close(f)
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
		tests++
		o0 = outcomes(key, 0, where[key]); k0 = kinds
		o2 = outcomes(key, 2, where[key])
		if (count[key, 0, "skip"] == runs[where[key], 0])
			skipped++
		if (k0 == 1 && kinds == 1 && !more_in_2(key, where[key])) {
			same++
			continue
		}
		different++
		verdict = reason = ""
		for (k = 1; k <= denies; k++)
			if (matches(name " " where[key] ": " what[key], deny[k])) {
				verdict = "listed"
				reason = why[k]
				used[k]++
				break
			}
		if (verdict == "" && k0 > 1 && !more_in_2(key, where[key])) {
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
	printf "],\n   \"tests\": %d, \"same\": %d, \"different\": %d, \"explained\": %d, \"skipped_with_0\": %d,\n   \"programs\": %d, \"async_forks\": %d, \"forks\": %d, \"async_forks_with_0\": %d,\n   \"counters\": {",
		tests, same, different, explained, skipped, nitems[name], sum[2, "session_start"], sum[2, "processes"], sum[0, "session_start"] > json
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
	if (problem != "") {
		bad = 1
		list = list sprintf("failed: %s: %s\n", name, problem)
	}
	printf "], \"problem\": %s}", problem == "" ? "null" : quote(problem) > json
	printf row, name, tests + 0, same + 0, different + 0, explained + 0, sum[2, "session_start"] + 0
}

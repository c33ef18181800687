package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"warder/secmon/event"
)

// patterns runs a subcommand and gives its output and error.
func patterns(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	cmd := root()
	cmd.SetOut(&out)
	cmd.SetArgs(append([]string{"patterns"}, args...))
	err := cmd.ExecuteContext(t.Context())
	return out.String(), err
}

const someRules = `title: curl
name: curl
logsource: {category: process_creation, product: linux}
detection: {s: {Image|endswith: /curl}, condition: s}
---
title: shell
name: shell
logsource: {category: process_creation, product: linux}
detection: {s: {Image|endswith: /sh, User: root}, condition: s}
---
title: download and run
level: high
correlation: {type: temporal_ordered, rules: [curl, shell], timespan: 1m}
`

func TestPatterns(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "x.yml"), []byte(someRules), 0o644); err != nil {
		t.Fatal(err)
	}
	var events bytes.Buffer
	for i, exe := range []string{"/bin/curl", "/bin/sh"} {
		line, err := json.Marshal(event.Event{Time: int64(i) * 1e9, Kind: event.Task, Action: event.Ran, VM: "ab"[i : i+1], Process: event.Process{Exe: exe}})
		if err != nil {
			t.Fatal(err)
		}
		events.Write(append(line, '\n'))
	}
	recorded := filepath.Join(dir, "events.json")
	if err := os.WriteFile(recorded, events.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		want []string
	}{
		{[]string{"list", "--rules", dir}, []string{"high   temporal_ordered  alert     download and run", "and 2 that are only parts"}},
		{[]string{"list", "--all", "--rules", dir}, []string{"curl", "shell"}},
		{[]string{"list", "-o", "json", "--rules", dir}, []string{`"title": "download and run"`, `"part": true`}},
		{[]string{"show", "shell", "--rules", dir}, []string{"log source:", "category=process_creation product=linux"}},
		{[]string{"lint", "--rules", dir}, []string{"3 rules are good", "execve execveat"}},
		{[]string{"test"}, []string{", 0 as they should not be"}},
		{[]string{"explain", recorded, "--rules", dir}, []string{
			"matches 1 event, as a part of others",
			`nearest: "exec /bin/sh" in b, for which 1 of 2 tests hold`, `but not User (line 9), which is ""`,
			"1 of 2", `"exec /bin/curl" in a`, "missing: shell",
		}},
	} {
		out, err := patterns(t, c.args...)
		if err != nil {
			t.Errorf("%v: %v", c.args, err)
		}
		for _, want := range c.want {
			if !strings.Contains(out, want) {
				t.Errorf("%v: %q is not in\n%s", c.args, want, out)
			}
		}
	}
	for want, args := range map[string][]string{
		`no rule "x"`:        {"show", "x"},
		"no such file":       {"list", "--rules", dir + "/nowhere"},
		"give the directory": {"list", "--rules", recorded},
		"line 1: ":           {"explain", filepath.Join(dir, "x.yml")},
	} {
		if _, err := patterns(t, args...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: error %v, want %q", args, err, want)
		}
	}
	bad := strings.Replace(someRules, "level: high", "level: high\nwarder: {samples: {positive: [{name: x, events: [{event.dataset: warder.loss}]}]}}", 1)
	if err := os.WriteFile(filepath.Join(dir, "x.yml"), []byte(bad), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := patterns(t, "test", "--rules", dir); err == nil || !strings.Contains(out, `does not alert on the sample "x"`) {
		t.Errorf("error %v, output\n%s", err, out)
	}
}

// Somebody publishes rules, somebody else takes them.
func TestPatternsFeed(t *testing.T) {
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	if err := os.MkdirAll(in("rules"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"x.yml": someRules, "pack.meta": "name: acme\nversion: '7'\nsource: us\nlicence: MIT\n"} {
		if err := os.WriteFile(filepath.Join(in("rules"), name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"publish", "--out", in("repository"), "--keys", in("keys"), in("rules")}, "acme 7: 2 files, repository version 1"},
		{[]string{"update", "--library", in("library"), "--name", "acme", "--url", in("repository"), "--root", in("repository/metadata/1.root.json")}, "acme: acme 7, 3 rules, now in force"},
		{[]string{"update", "--library", in("library")}, "acme: acme 7, 3 rules, as before"},
	} {
		if out, err := patterns(t, c.args...); err != nil || !strings.Contains(out, c.want) {
			t.Errorf("%v: %v, output %q, want %q", c.args, err, out, c.want)
		}
	}
	for want, args := range map[string][]string{
		"has no source":         {"update", "--library", in("empty")},
		"give --out":            {"publish", in("rules")},
		"a --name, a --url":     {"update", "--library", in("library"), "--name", "x"},
		"give the directory of": {"update"},
	} {
		if _, err := patterns(t, args...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: error %v, want %q", args, err, want)
		}
	}
}

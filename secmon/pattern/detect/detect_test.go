package detect_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"warder/secmon/event"
	"warder/secmon/pattern/detect"
	"warder/secmon/pattern/example"
	"warder/secmon/pattern/sigma"
)

func parse(t testing.TB, text string) []*sigma.Rule {
	t.Helper()
	rules, err := sigma.Parse("test.yml", []byte(text), sigma.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return rules
}

func compile(t testing.TB, rules []*sigma.Rule) *detect.Program {
	t.Helper()
	p, err := detect.Compile(rules)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func matched(p *detect.Program, e *event.Event) []int {
	var out []int
	for _, m := range p.Match(e, nil) {
		out = append(out, m.Rule)
	}
	slices.Sort(out)
	return out
}

// A program of random rules agrees with the plain evaluation on random events.
func TestAgreesWithPlain(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	events, built := 0, 0
	for range rounds {
		var rules []*sigma.Rule
		var sources []string
		for len(rules) < 20 {
			text := randomRule(rng)
			more, err := sigma.Parse("random.yml", []byte(text), sigma.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := detect.Compile(more); err == nil { // some can match nothing
				rules = append(rules, more...)
				sources = append(sources, text)
			}
		}
		p := compile(t, rules)
		for i, r := range rules {
			e, err := example.Of(r)
			if err != nil {
				continue // some hold for nothing that can be made of the rule alone
			}
			if built++; !slices.Contains(matched(p, e), i) {
				t.Fatalf("event %+v, made for the rule, is not matched:\n%s", e, sources[i])
			}
		}
		for range 200 {
			e := randomEvent(rng)
			var want []int
			for i, r := range rules {
				if detect.Plain(r, e) {
					want = append(want, i)
				}
			}
			if got := matched(p, e); !slices.Equal(got, want) {
				for i := range rules {
					if slices.Contains(got, i) != slices.Contains(want, i) {
						t.Fatalf("event %+v\nmatched %v, want %v\nrule %d:\n%s", e, got, want, i, sources[i])
					}
				}
			}
			events += len(want)
		}
	}
	if events < 1000 || built < 1000 {
		t.Errorf("only %d matches were compared, %d made", events, built)
	}
}

var words = []string{"", "a", "sh", "/bin/sh", "/tmp/x", "curl", "RM", "-rf", "4444", "é", "K", "openat", "\u212a"}

func randomWord(rng *rand.Rand) string { return words[rng.IntN(len(words))] }

func randomRule(rng *rand.Rand) string {
	sources := []string{
		"category: process_creation", "category: file_event", "service: auditd", "service: syslog", "product: linux", "category: network_connection",
	}
	names := [][]string{
		{"Image", "CommandLine", "User", "ProcessId"}, {"TargetFilename", "Image"}, {"type", "a0", "a1", "exe", "name", "SYSCALL"}, {}, {}, {"DestinationPort", "Image", "DestinationIp"},
	}
	i := rng.IntN(len(sources))
	modifiers := []string{"", "|contains", "|startswith", "|endswith", "|cased", "|re", "|contains|all", "|neq", "|windash"}
	var b strings.Builder
	fmt.Fprintf(&b, "title: r\nlogsource: {%s}\ndetection:\n", sources[i])
	var ids []string
	for n := range 1 + rng.IntN(3) {
		id := fmt.Sprintf("s%d", n)
		ids = append(ids, id)
		if len(names[i]) == 0 || rng.IntN(5) == 0 {
			fmt.Fprintf(&b, "  %s: [%q, %q]\n", id, "x"+randomWord(rng), "sh"+randomWord(rng))
			continue
		}
		fmt.Fprintf(&b, "  %s:\n", id)
		for _, j := range rng.Perm(len(names[i]))[:1+rng.IntN(2)] {
			m := modifiers[rng.IntN(len(modifiers))]
			v := func() string {
				if rng.IntN(5) == 0 && m == "" {
					return "'*" + randomWord(rng) + "?'"
				}
				if names[i][j] == "type" {
					return []string{"EXECVE", "SYSCALL", "PATH"}[rng.IntN(3)]
				}
				return fmt.Sprintf("%q", randomWord(rng))
			}
			fmt.Fprintf(&b, "    %s%s: [%s, %s]\n", names[i][j], m, v(), v())
		}
	}
	condition := ids[0]
	for _, id := range ids[1:] {
		condition += []string{" and ", " or ", " and not ", " or not "}[rng.IntN(4)] + id
	}
	return b.String() + "  condition: " + condition + "\n"
}

func randomEvent(rng *rand.Rand) *event.Event {
	e := &event.Event{Kind: event.Syscall, VM: randomWord(rng), Call: event.Call{Name: []string{"execve", "openat", "connect", "uname"}[rng.IntN(4)]}}
	e.Process = event.Process{
		PID: uint32(rng.IntN(3)) * 4444, Exe: randomWord(rng), User: randomWord(rng), Name: randomWord(rng),
		Args: randomWord(rng) + "\x00" + randomWord(rng) + "\x00" + randomWord(rng) + "\x00",
	}
	e.Call.Path, e.Call.File.Path, e.Call.File.Absent = randomWord(rng), randomWord(rng), rng.IntN(2) == 0
	e.Call.Flags = uint32(rng.IntN(2)) * 0o100
	switch rng.IntN(4) {
	case 0:
		e.Kind, e.Log = event.LogLine, &event.Log{Program: "sshd", Text: randomWord(rng) + " " + randomWord(rng)}
	case 1:
		e.Kind, e.Log = event.LogLine, &event.Log{Program: "audit", Text: "type=EXECVE a0=\"" + randomWord(rng) + "\" a1=" + randomWord(rng)}
	}
	if e.Call.Name == "connect" {
		e.Net = &event.Net{Host: randomWord(rng)}
	}
	return e
}

// What decides by numbers, addresses and times.
func TestValues(t *testing.T) {
	e := &event.Event{Kind: event.Flow, Action: event.Began, Time: 1_763_800_000_000_000_000, Net: &event.Net{Destination: netip.MustParseAddrPort("10.1.2.3:4444")}}
	for in, want := range map[string]bool{
		"DestinationPort: 4444": true, "DestinationPort: '4444'": true, "DestinationPort|gt: 4443": true, "DestinationPort|lt: 4444": false,
		"DestinationPort|contains: '44'": true, "DestinationPort|neq: 4444": false,
		"DestinationIp|cidr: 10.0.0.0/8": true, "DestinationIp|cidr: 11.0.0.0/8": false, "DestinationIp: 10.1.2.3": true, "DestinationIp|cidr: '::/0'": false,
		"UtcTime|hour: 8": true, "UtcTime|year|gte: 2026": false, "UtcTime|month: 11": true, "UtcTime|week: 47": true,
		"SourceIp: null": true, "DestinationIp: null": false, "SourceIp|exists: true": true, "Image|exists: false": false, "Image: ''": true,
		"SourcePort|fieldref: DestinationPort": false, "DestinationPort|fieldref: DestinationPort": true,
	} {
		r := parse(t, "title: t\nlogsource: {category: network_connection}\ndetection:\n  s:\n    "+in+"\n  condition: s\n")
		if got := len(matched(compile(t, r), e)) == 1; got != want {
			t.Errorf("%s: %v, want %v", in, got, want)
		}
	}
}

func TestRefused(t *testing.T) {
	for _, c := range []struct{ source, test, want string }{
		{"product: windows", "Image: x", "only events of Linux"},
		{"category: registry_set", "Image: x", "no events of category"},
		{"service: nginx", "Image: x", "no events of service"},
		{"category: process_creation", "Hashes: x", "have no field Hashes here; they have CommandLine"},
		{"product: warder, service: dreams", "vm: x", "no service dreams"},
		{"service: auditd", "type: EXECVE\n    comm: x", ""}, // a line of a log could say so
	} {
		r := parse(t, "title: t\nlogsource: {"+c.source+"}\ndetection:\n  s:\n    "+c.test+"\n  condition: s\n")
		_, err := detect.Compile(r)
		if c.want == "" && err == nil {
			continue
		}
		if err == nil || c.want == "" || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s, %s: error %v, want %q", c.source, c.test, err, c.want)
		}
	}
}

func BenchmarkMatch(b *testing.B) {
	for _, n := range []int{1, 210, 5000} {
		var rules []*sigma.Rule
		for i := range n {
			rules = append(rules, parse(b, fmt.Sprintf("title: r%d\nlogsource: {category: process_creation}\ndetection:\n  s:\n    Image|endswith: '/tool%d'\n    CommandLine|contains: ' --opt%d'\n  condition: s\n", i, i*7919, i))...)
		}
		p := compile(b, rules)
		e := &event.Event{Kind: event.Task, Action: event.Ran, Process: event.Process{Exe: "/usr/bin/find", Args: "find\x00/var/lib\x00-name\x00*.list\x00"}}
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			var buf []detect.Match
			for b.Loop() {
				buf = p.Match(e, buf[:0])
			}
		})
	}
}

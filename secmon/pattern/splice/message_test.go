package splice

import (
	"strings"
	"testing"

	"warder/secmon/event"
	"warder/secmon/pattern/sigma"
)

const messages = `title: Command put together by several VMs
correlation:
    type: warder_splice
    group-by: [destination.vm]
    timespan: 10m
    condition: {gte: 2}
    parts: {message: [data]}
    match:
        regexps: ['curl [^|]*\| *sh']
    trigger: {message: [data, http-request], vm: any}
`

// Messages of several VMs to one are joined, the one that completes the pattern among
// them.
func TestMessages(t *testing.T) {
	r := compile(t, messages)
	if r.Splice.Content != "warder.payload" || r.Splice.Join != ByTime {
		t.Errorf("%+v", r.Splice)
	}
	e := New([]*Rule{r}, DefaultLimits)
	if calls, _ := e.Needs(); len(calls) != 0 {
		t.Errorf("it needs the calls %v", calls)
	}
	at := int64(0)
	say := func(from, to, text string) []Found {
		at++
		return e.Observe(&event.Event{Time: at, Kind: event.Packet, Action: event.Data, VM: from, Net: &event.Net{SourceVM: from, DestinationVM: to, Payload: []byte(text)}})
	}
	say("a", "c", "curl http://evil/")
	if f := say("b", "d", "x | sh"); len(f) != 0 {
		t.Errorf("messages to different VMs are joined: %+v", f[0].Finding)
	}
	if f := say("a", "c", "y"); len(f) != 0 {
		t.Errorf("found of half a command: %+v", f[0].Finding)
	}
	f := say("b", "c", " | sh")
	if len(f) != 1 || strings.Join(f[0].Finding.VMs, " ") != "a b" || len(f[0].Finding.Acts) != 3 {
		t.Fatalf("%+v", f)
	}
	if f := say("b", "", "curl x | sh"); len(f) != 0 {
		t.Errorf("found without a VM that it is for: %+v", f[0].Finding)
	}
}

func TestMessageFaults(t *testing.T) {
	for _, c := range [][3]string{
		{"[data]}", "[dada]}", `there is no message "dada"`}, {"[destination.vm]", "[file]", "for objects that are no files"},
		{"{message: [data]}", "{message: data}", "a list of messages"}, {"{message: [data]}", "{}", "system calls are needed here"},
	} {
		rules, err := sigma.Parse("x.yaml", []byte(strings.Replace(messages, c[0], c[1], 1)), sigma.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Compile(rules[0]); err == nil || !strings.Contains(err.Error(), c[2]) {
			t.Errorf("%s: %v", c[1], err)
		}
	}
}

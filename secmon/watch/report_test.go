package watch

import (
	"testing"

	"warder/secmon/event"
	"warder/secmon/pattern"
	"warder/secmon/pattern/sigma"
)

// Of what another channel reports alerts come, and what is to be stopped is said.
func TestReport(t *testing.T) {
	rules, err := sigma.Parse("x.yaml", []byte(`title: t
logsource: {product: warder, service: packet}
detection: {s: {warder.payload|contains: evil}, condition: s}
warder: {response: block}
`), sigma.Options{})
	if err != nil {
		t.Fatal(err)
	}
	l, err := pattern.NewLibrary(rules)
	if err != nil {
		t.Fatal(err)
	}
	w, err := New(l)
	if err != nil {
		t.Fatal(err)
	}
	if w.Message() == 0 {
		t.Error("nothing of messages is wanted")
	}
	message := func(s string) event.Event {
		return event.Event{Time: 1, Kind: event.Packet, Action: "data", VM: "a", Net: &event.Net{SourceVM: "a", Payload: []byte(s)}}
	}
	if w.Report(message("good")) {
		t.Error("a good message is stopped")
	}
	if !w.Report(message("an evil one")) {
		t.Error("an evil message is not stopped")
	}
	if e, err := w.Alerts.Next(t.Context()); err != nil || e.VM != "a" || e.Finding.RuleTitle != "t" || e.Finding.Taken[0].Detail != "the message was not delivered, its flow is cut" {
		t.Errorf("%+v, %v", e, err)
	}
	for range 2 {
		if e, err := w.Events.Next(t.Context()); err != nil || e.Kind != event.Packet {
			t.Errorf("%+v, %v", e, err)
		}
	}
}

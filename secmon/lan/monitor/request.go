package monitor

import (
	"fmt"
	"strings"
	"time"

	"warder/secmon/event"
	"warder/secmon/lan"
	"warder/secmon/lan/app"
)

var _ lan.RequestInspector = (*Monitor)(nil)

// RequestRefused implements [lan.RequestInspector].
func (m *Monitor) RequestRefused(r lan.RefusedRequest) {
	name := vm(r.From)
	if name == "" {
		return
	}
	n := &event.Net{
		Transport: transport(r.Protocol), Source: r.Source, Destination: r.Destination,
		SourceVM: name, DestinationVM: vm(r.To), VLAN: r.VLAN, Initiated: true,
	}
	if r.Source.Port() != 0 { // of the gateway's own clients it is not known
		n.Flow = event.FlowID(n.Transport, n.Source, n.Destination)
	}
	to := "the gateway"
	if n.DestinationVM != "" {
		to = fmt.Sprintf("%s, port %d/%s,", n.DestinationVM, r.Destination.Port(), n.Transport)
	}
	what := fmt.Sprintf("asks %s for what is not declared", to)
	switch {
	case r.Why != nil:
		what = fmt.Sprintf("says to %s what is not passed on: %v", to, r.Why)
	case r.HTTP != nil:
		n.Application, n.Host = string(app.HTTP), app.Text([]byte(r.HTTP.Host))
		n.HTTP = &event.HTTP{Method: app.Text([]byte(r.HTTP.Method)), Host: n.Host, Path: app.Text([]byte(r.HTTP.Path))}
	default:
		n.Application = string(app.DNS)
		n.DNS = &event.DNS{Name: strings.ToLower(app.Text([]byte(strings.TrimSuffix(r.Name, "."))))}
	}
	x := m.machine(name)
	m.tell(x.does(nil, time.Now().UnixNano(), undeclared, what, n))
}

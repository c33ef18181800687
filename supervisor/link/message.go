package link

import (
	"time"

	"warder/guestinit/proto"
	"warder/supervisor/declaration"
	"warder/supervisor/services"
	"warder/supervisor/sizing"
	"warder/supervisor/verify"
)

// Opening is what a supervisor has to know before anything is asked of it.
type Opening struct {
	Capacity verify.Capacity `json:"capacity"`
	Headroom uint64          `json:"headroom"` // bytes
	Metered  bool            `json:"metered"`  // what is available counts, not the capacity alone
	// Reserved is what the supervisor's own VM has.
	Reserved verify.Reserved `json:"reserved"`
	// Granted is what VMs hold that are no services, by the supervisor before.
	Granted []verify.Grant `json:"granted,omitempty"`
	// Policies are the text of File, of who may do what; File is "" without any.
	File     string `json:"file,omitempty"`
	Policies string `json:"policies,omitempty"`
	// Inside says that they are for the VMs of services too.
	Inside bool `json:"inside,omitempty"`
}

// Known is a service that is declared already.
type Known struct {
	Service declaration.Service `json:"service"`
	Added   bool                `json:"added,omitempty"` // by a request
	// Record is of the supervisor before this one.
	Record *services.Record `json:"record,omitempty"`
	// Held is the number as of which connections hold it, 0 for none.
	Held uint64 `json:"held,omitempty"`
}

// Abridged is a service as far as deciding about it goes: what it runs and what is
// attached to its VM is the host's business, and may be secret or long.
func Abridged(d declaration.Service) declaration.Service {
	d.Env, d.Attachments, d.Secrets, d.Overlay, d.LAN = nil, declaration.Attachments{}, nil, "", nil
	d.Command = d.Command[:min(1, len(d.Command))]
	if d.Health != nil {
		h := *d.Health
		h.Command = h.Command[:min(1, len(h.Command))]
		d.Health = &h
	}
	if d.OnDemand != nil {
		o := *d.OnDemand
		o.Sockets = nil
		d.OnDemand = &o
	}
	return d
}

// Name names a service.
type Name struct {
	Name string `json:"name"`
}

// Page asks for what comes after a name.
type Page struct {
	After string `json:"after,omitempty"`
}

// Listing is a page of services, by name and without their declarations.
type Listing struct {
	Services []services.Status `json:"services"`
	More     bool              `json:"more,omitempty"`
}

// Addition declares a service by a request that has a number.
type Addition struct {
	Service declaration.Service `json:"service"`
	Request uint64              `json:"request"`
}

// Removal removes one.
type Removal struct {
	Name    string `json:"name"`
	Request uint64 `json:"request"`
}

// Starting starts one in the name of By.
type Starting struct {
	Name    string `json:"name"`
	By      string `json:"by,omitempty"`
	Request uint64 `json:"request"`
	// Patience is how long it may wait for what the machine does not have.
	Patience time.Duration `json:"patience_ns,omitempty"`
}

// Stopping stops one in the name of By. Timeout is 0 for the declared one.
type Stopping struct {
	Name    string        `json:"name"`
	By      string        `json:"by,omitempty"`
	Timeout time.Duration `json:"timeout_ns,omitempty"`
}

// Finish ends the service, in the name of By, whose VM is that of a start, at Began.
type Finish struct {
	VM
	Began time.Time `json:"began"`
	By    string    `json:"by"`
}

// Demanded has a service run that connections hold as of Number. Peer is the service whose
// connection it is, "" for somebody else's. Once Request is
// decided, it has Begun.
type Demanded struct {
	Name    string `json:"name"`
	Peer    string `json:"peer,omitempty"`
	Number  uint64 `json:"number"`
	Request uint64 `json:"request"`
	Begun   bool   `json:"begun,omitempty"`
	// Patience is how long they may wait for what the machine does not have.
	Patience time.Duration `json:"patience_ns,omitempty"`
}

// Released is a service that no connection holds any more, as of Number.
type Released struct {
	Name   string `json:"name"`
	Number uint64 `json:"number"`
}

// Asked is whether somebody may do something with a service, "" for the host.
type Asked struct {
	Principal verify.Principal `json:"principal"`
	// Inside is the service whose VM asks, which is the principal then.
	Inside string `json:"inside,omitempty"`
	Action string `json:"action"`
	Name   string `json:"name,omitempty"`
}

// VM is that of a service's nth start since somebody started it.
type VM struct {
	Name  string `json:"name"`
	Start int    `json:"start"`
	// Only says that there is to be none unless there is one.
	Only bool `json:"only,omitempty"`
}

// Booted tells whether there is such a VM now.
type Booted struct {
	There bool `json:"there"`
}

// Ending is how a command ended.
type Ending struct {
	Status proto.Status `json:"status"`
}

// Checked is how a health check ended, and the beginning of what it said.
type Checked struct {
	Status proto.Status `json:"status"`
	Said   string       `json:"said,omitempty"`
}

// Destruction is the end of a VM, whose processes get Grace to end, and which is
// killed after Patience.
type Destruction struct {
	VM
	Grace    time.Duration `json:"grace_ns"`
	Patience time.Duration `json:"patience_ns"`
}

// Sizing lets a VM have another size.
type Sizing struct {
	VM
	From sizing.Size `json:"from"`
	To   sizing.Size `json:"to"`
}

// Resized is a service that is let have another size, and why.
type Resized struct {
	Record services.Record `json:"record"`
	By     services.Sized  `json:"by"`
	Why    string          `json:"why,omitempty"`
}

// Used is what the machine has to give at a moment, in bytes.
type Used struct {
	Available uint64            `json:"available"`
	Used      map[string]uint64 `json:"used,omitempty"` // by holder
}

// Decided is a request of the host's that holds from here on: whoever supervises
// next goes on from there.
type Decided struct {
	Name    string `json:"name"`
	Request uint64 `json:"request"`
	// Record is what a service that was started is.
	Record *services.Record `json:"record,omitempty"`
}

package verify

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cedar-policy/cedar-go"

	"warder/supervisor/declaration"
)

// A Request is what somebody wants to do with a service.
type Request struct {
	Principal Principal
	Action    string // list, show, start, stop, wait, logs, events, exec, resources
	// Service is nil for what is not about one.
	Service *declaration.Service
}

func (r *Request) String() string {
	if r.Service == nil {
		return fmt.Sprintf("%s may not do this: %s", r.Principal, r.Action)
	}
	return fmt.Sprintf("%s may not do this with %s: %s", r.Principal, r.Service.Name, r.Action)
}

// A Policy says who may do what, as policies in Cedar do: what none permits is
// refused, and so is what one forbids.
type Policy struct{ set *cedar.PolicySet }

// ParsePolicy reads policies; file is what positions in errors are in.
func ParsePolicy(file string, src []byte) (*Policy, error) {
	list, err := cedar.NewPolicyListFromBytes(file, src)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	set := cedar.NewPolicySet()
	for i, p := range list {
		id := string(p.Annotations()["id"])
		if id == "" {
			id = fmt.Sprintf("policy %d", i+1)
		}
		if !set.Add(cedar.PolicyID(id), p) {
			return nil, fmt.Errorf("%s: line %d: there are two policies with the id %q", file, p.Position().Line, id)
		}
	}
	return &Policy{set}, nil
}

// self is what a service may do with itself, unless a policy forbids it.
const self = `permit (principal is Service, action in [Action::"show", Action::"stop"], resource)
when { principal == resource };`

// WithSelf is the policy for requests of services' VMs: a nil one permits nothing else
// than that a service looks at itself and ends itself.
func (p *Policy) WithSelf() *Policy {
	set := cedar.NewPolicySet()
	if p != nil {
		for id, policy := range p.set.All() {
			set.Add(id, policy)
		}
	}
	list, err := cedar.NewPolicyListFromBytes("", []byte(self))
	if err != nil {
		panic("the policy of services themselves: " + err.Error()) // a test has parsed it
	}
	set.Add("what a service may do with itself", list[0])
	return &Policy{set}
}

// A Denial is a request that is not permitted.
type Denial struct {
	Request string
	// Policies are those that forbid it, with their lines; none where none permits
	// it.
	Policies []string
	// Failed are policies that could not be evaluated. One that fails permits
	// nothing.
	Failed []string
}

func (d *Denial) Error() string {
	switch {
	case len(d.Failed) > 0:
		return fmt.Sprintf("%s (%s)", d.Request, strings.Join(d.Failed, "; "))
	case len(d.Policies) > 0:
		return fmt.Sprintf("%s (forbidden by %s)", d.Request, strings.Join(d.Policies, ", "))
	}
	return d.Request + " (no policy permits it)"
}

// Permit gives a *Denial unless the policies permit the request.
func (p *Policy) Permit(r Request) error {
	who, resource := r.Principal.entity(), cedar.Entity{UID: cedar.NewEntityUID(hostType, "local")}
	if r.Service != nil {
		resource = serviceEntity(r.Service)
	}
	decision, why := cedar.Authorize(p.set, cedar.EntityMap{who.UID: who, resource.UID: resource}, cedar.Request{
		Principal: who.UID, Action: cedar.NewEntityUID(actionType, cedar.String(r.Action)), Resource: resource.UID, Context: cedar.NewRecord(nil),
	})
	if decision == cedar.Allow && len(why.Errors) == 0 {
		return nil
	}
	d := &Denial{Request: r.String()}
	for _, e := range why.Errors {
		d.Failed = append(d.Failed, fmt.Sprintf("%s, line %d, fails: %s", e.PolicyID, e.Position.Line, e.Message))
	}
	if decision == cedar.Deny {
		for _, reason := range why.Reasons {
			d.Policies = append(d.Policies, fmt.Sprintf("%s, line %d", reason.PolicyID, reason.Position.Line))
		}
	}
	slices.Sort(d.Failed)
	slices.Sort(d.Policies)
	return d
}

package verify

import (
	"github.com/cedar-policy/cedar-go"

	"warder/supervisor/declaration"
)

// A Principal is who asks: a user of the machine, or a client of the network or a
// service.
type Principal struct {
	Name   string   // of the user, or its number where it has none
	UID    uint32   // of a user
	Groups []string // of a user, by name

	// Certificate is what a client of the network has shown, which is the principal then.
	Certificate *Certificate
	// Service is one whose VM asks, which is the principal then.
	Service *declaration.Service `json:"-"`
}

// A Certificate is what somebody vouches for whom the host trusts in that.
type Certificate struct {
	CommonName    string
	Organizations []string
	Units         []string // of organizations
	DNS           []string // alternative names
	Emails        []string
	URIs          []string
	Fingerprint   string // SHA-256 of the whole, as hexadecimal digits
}

func (p Principal) String() string {
	switch {
	case p.Certificate != nil:
		return "client " + p.Name
	case p.Service != nil:
		return "service " + p.Service.Name
	}
	return p.Name
}

// The types of entities in policies.
const (
	userType    = "User"    // with uid; in Group
	groupType   = "Group"   // by name
	clientType  = "Client"  // with what is in its certificate
	actionType  = "Action"  // by name
	serviceType = "Service" // with cpus, memory (bytes at the most)
	hostType    = "Host"    // what is not about a service is about Host::"local"
)

// entity is the principal with its attributes.
func (p Principal) entity() cedar.Entity {
	if p.Service != nil {
		return serviceEntity(p.Service)
	}
	if c := p.Certificate; c != nil {
		return cedar.Entity{UID: cedar.NewEntityUID(clientType, cedar.String(p.Name)), Attributes: cedar.NewRecord(cedar.RecordMap{
			"cn": cedar.String(c.CommonName), "organizations": setOf(c.Organizations), "units": setOf(c.Units),
			"dns": setOf(c.DNS), "emails": setOf(c.Emails), "uris": setOf(c.URIs), "fingerprint": cedar.String(c.Fingerprint),
		})}
	}
	var groups []cedar.EntityUID
	for _, g := range p.Groups {
		groups = append(groups, cedar.NewEntityUID(groupType, cedar.String(g)))
	}
	return cedar.Entity{
		UID: cedar.NewEntityUID(userType, cedar.String(p.Name)), Parents: cedar.NewEntityUIDSet(groups...),
		Attributes: cedar.NewRecord(cedar.RecordMap{"uid": cedar.Long(p.UID)}),
	}
}

func setOf(list []string) cedar.Set {
	var values []cedar.Value
	for _, s := range list {
		values = append(values, cedar.String(s))
	}
	return cedar.NewSet(values...)
}

// serviceEntity is a service with its attributes.
func serviceEntity(s *declaration.Service) cedar.Entity {
	return cedar.Entity{UID: cedar.NewEntityUID(serviceType, cedar.String(s.Name)), Attributes: cedar.NewRecord(cedar.RecordMap{
		"cpus":   cedar.Long(max(s.CPUs, 1)),
		"memory": cedar.Long(max(s.Memory.Start, s.Memory.Most)),
	})}
}

package anomaly

import (
	"net/netip"
	"reflect"
)

func size[T any]() int { return int(reflect.TypeFor[T]().Size()) }

// Size is about how many bytes a machine's memory of what was done takes.
func (m *Machine) Size() (n int) {
	for _, u := range m.ports.m {
		n += 100 + len(u.value.things)*size[tried[uint16]]()
	}
	for _, u := range m.hosts.m {
		n += 100 + len(u.value.things)*size[tried[netip.Addr]]()
	}
	n += len(m.rhythms.m) * size[used[rhythm]]()
	for _, u := range m.domains.m {
		n += 100 + len(u.value.names)*size[asked]()
	}
	return n
}

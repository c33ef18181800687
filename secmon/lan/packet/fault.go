package packet

// Fault is what is wrong with a frame.
type Fault uint8

// The faults. No sender that means well makes any of them.
const (
	Sound           Fault = iota
	ShortEthernet         // shorter than an Ethernet header
	ShortTag              // ends in a VLAN tag
	ManyTags              // more than two VLAN tags
	GroupSource           // comes from a group's hardware address
	ShortARP              // ends in its ARP packet
	OddARP                // ARP of other than Ethernet and IPv4, or neither question nor answer
	ShortIP               // ends in its IP header
	OddVersion            // IP, or ICMP, of another version than what it is in
	MappedAddress         // an address of IPv4 in a header of IPv6 (RFC 4942, 2.2)
	OddHeaderLength       // a header that is shorter than itself
	OddLength             // says that it is longer than it is, or shorter than its headers
	OddChecksum           // wrong checksum of the IPv4 header
	SourceRoute           // has itself routed where its sender says
	ShortExtension        // ends in an extension header
	ManyExtensions        // extension headers without end, or in an order that is not allowed
	LongHeaders           // headers longer than any that are in use
	TinyFragment          // a fragment that hides a header, or overlays one
	LongFragments         // fragments of a packet of more than 65,535 bytes
	ShortTransport        // ends in the header of TCP, UDP or ICMP
	OddFlags              // flags that TCP never sends together, or none
	ToItself              // from an address to the same address
	Faults                // how many there are
)

var faultNames = [Faults]string{
	"", "short-ethernet", "short-tag", "many-tags", "group-source", "short-arp", "odd-arp", "short-ip", "odd-version", "mapped-address",
	"odd-header-length", "odd-length", "odd-checksum", "source-route", "short-extension", "many-extensions", "long-headers",
	"tiny-fragment", "long-fragments", "short-transport", "odd-flags", "to-itself",
}

// String is a word for the fault, "" for none.
func (f Fault) String() string {
	if f >= Faults {
		return "unknown"
	}
	return faultNames[f]
}

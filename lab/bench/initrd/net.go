package initrd

// The network between a guest and the machine that its VMM runs on.
const (
	GuestMAC     = "02:00:00:00:00:4d"
	GuestAddress = "10.77.0.2/24"
	HostAddress  = "10.77.0.1"
)

package kvm

import "fmt"

// IRQLine is KVM_IRQ_LINE: "Sets the level of a GSI input to the interrupt
// controller model in the kernel" (CapIRQChip). On arm64 irq holds the kind of
// interrupt as well, see [SPI].
func (vm *VM) IRQLine(irq uint32, level bool) error {
	l := irqLevel{irq: irq}
	if level {
		l.level = 1
	}
	_, err := do(vm.fd, reqIRQLine, &l)
	return err
}

// MSI is one message-signalled interrupt: the write of Data to Address.
type MSI struct {
	Address  uint64
	Data     uint32
	Flags    uint32 // MSIValidDevID
	DeviceID uint32 // of the writer, where Flags says so (GICv3 ITS)
}

// MSIValidDevID is KVM_MSI_VALID_DEVID: MSI.DeviceID is meant.
const MSIValidDevID = 1 << 0

// SignalMSI is KVM_SIGNAL_MSI (CapSignalMSI): "Directly inject a MSI message."
// delivered is false when the guest blocked it.
func (vm *VM) SignalMSI(m MSI) (delivered bool, err error) {
	a := msi{
		addressLo: uint32(m.Address), addressHi: uint32(m.Address >> 32),
		data: m.Data, flags: m.Flags, devID: m.DeviceID,
	}
	n, err := do(vm.fd, reqSignalMSI, &a)
	return n > 0, err
}

// Types of IRQRoute.
const (
	IRQRouteChip = 1 // KVM_IRQ_ROUTING_IRQCHIP: to Pin of Chip
	IRQRouteMSI  = 2 // KVM_IRQ_ROUTING_MSI
)

// Numbers of the x86 in-kernel interrupt controllers (KVM_IRQCHIP_*). On arm64
// there is one, number 0, whose pins are the SPIs.
const (
	ChipPICMaster = 0
	ChipPICSlave  = 1
	ChipIOAPIC    = 2
)

// IRQRoute says what an interrupt with number GSI does.
type IRQRoute struct {
	GSI       uint32
	Type      uint32 // IRQRouteChip or IRQRouteMSI
	Chip, Pin uint32 // for IRQRouteChip
	MSI       MSI    // for IRQRouteMSI
}

// SetGSIRouting is KVM_SET_GSI_ROUTING (CapIRQRouting): "Sets the GSI routing
// table entries, overwriting any previously set entries."
func (vm *VM) SetGSIRouting(routes []IRQRoute) error {
	entries := make([]irqRoute, len(routes))
	for i, r := range routes {
		e := irqRoute{gsi: r.GSI, typ: r.Type}
		switch r.Type {
		case IRQRouteChip:
			e.data[0], e.data[1] = r.Chip, r.Pin
		case IRQRouteMSI:
			e.flags = r.MSI.Flags
			e.data[0], e.data[1] = uint32(r.MSI.Address), uint32(r.MSI.Address>>32)
			e.data[2], e.data[3] = r.MSI.Data, r.MSI.DeviceID
		default:
			return fmt.Errorf("GSI %d: unknown route type %d", r.GSI, r.Type)
		}
		entries[i] = e
	}
	_, _, err := doList(vm.fd, reqSetGSIRouting, entries)
	return err
}

// Flags of IRQFD.
const (
	IRQFDDeassign = 1 << 0 // KVM_IRQFD_FLAG_DEASSIGN: undo an assignment of the same FD and GSI
	IRQFDResample = 1 << 1 // KVM_IRQFD_FLAG_RESAMPLE: level-triggered; ResampleFD is signalled at the guest's EOI (CapIRQFDResample)
)

// IRQFD ties an eventfd to an interrupt.
type IRQFD struct {
	FD         int
	GSI        uint32
	Flags      uint32
	ResampleFD int // with IRQFDResample
}

// IRQFD is KVM_IRQFD (CapIRQFD): "Allows setting an eventfd to directly trigger
// a guest interrupt. [...] When an event is triggered on the eventfd, an
// interrupt is injected into the guest using the specified gsi pin."
// On arm64 the interrupt controller must be initialised first (EAGAIN).
func (vm *VM) IRQFD(f IRQFD) error {
	a := irqFD{fd: uint32(f.FD), gsi: f.GSI, flags: f.Flags}
	if f.Flags&IRQFDResample != 0 {
		a.resampleFD = uint32(f.ResampleFD)
	}
	_, err := do(vm.fd, reqIRQFD, &a)
	return err
}

// Flags of IOEventFD.
const (
	IOEventFDDatamatch = 1 << 0 // KVM_IOEVENTFD_FLAG_DATAMATCH: only writes of Datamatch count
	IOEventFDPIO       = 1 << 1 // KVM_IOEVENTFD_FLAG_PIO: Addr is a port (x86)
	IOEventFDDeassign  = 1 << 2 // KVM_IOEVENTFD_FLAG_DEASSIGN: undo the same assignment
)

// IOEventFD ties an eventfd to a guest address.
type IOEventFD struct {
	Addr      uint64
	Len       uint32 // 1, 2, 4 or 8 bytes; 0 is any (CapIOEventFDAnyLength)
	FD        int
	Flags     uint32
	Datamatch uint64
}

// IOEventFD is KVM_IOEVENTFD (CapIOEventFD): "This ioctl attaches or detaches
// an ioeventfd to a legal pio/mmio address within the guest. A guest write in
// the registered address will signal the provided event instead of triggering
// an exit." A write of another length or value still exits.
func (vm *VM) IOEventFD(f IOEventFD) error {
	_, err := do(vm.fd, reqIOEventFD, &ioEventFD{
		datamatch: f.Datamatch, addr: f.Addr, len: f.Len, fd: int32(f.FD), flags: f.Flags,
	})
	return err
}

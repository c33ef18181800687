package net

import (
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"

	"warder/devices/virtio"
)

// Feature bits, section 5.1.3.
const (
	featureCsum          = 1 << 0
	featureGuestCsum     = 1 << 1
	featureGuestOffloads = 1 << 2 // VIRTIO_NET_F_CTRL_GUEST_OFFLOADS
	featureMTU           = 1 << 3
	featureMAC           = 1 << 5
	featureGuestTSO4     = 1 << 7
	featureGuestTSO6     = 1 << 8
	featureGuestECN      = 1 << 9
	featureHostTSO4      = 1 << 11
	featureHostTSO6      = 1 << 12
	featureHostECN       = 1 << 13
	featureMergeable     = 1 << 15 // VIRTIO_NET_F_MRG_RXBUF
	featureStatus        = 1 << 16
	featureControl       = 1 << 17 // VIRTIO_NET_F_CTRL_VQ
	featureRx            = 1 << 18 // VIRTIO_NET_F_CTRL_RX
	featureRxExtra       = 1 << 20
	featureAnnounce      = 1 << 21 // VIRTIO_NET_F_GUEST_ANNOUNCE
	featureMultiqueue    = 1 << 22 // VIRTIO_NET_F_MQ
	featureSetMAC        = 1 << 23 // VIRTIO_NET_F_CTRL_MAC_ADDR
	featureGuestUSO4     = 1 << 54
	featureGuestUSO6     = 1 << 55
	featureHostUSO       = 1 << 56
	featureSpeed         = 1 << 63 // VIRTIO_NET_F_SPEED_DUPLEX

	features = featureGuestCsum | featureGuestOffloads | featureMTU | featureMAC |
		featureGuestTSO4 | featureGuestTSO6 | featureGuestECN | featureGuestUSO4 | featureGuestUSO6 |
		featureMergeable | featureStatus | featureControl | featureRx | featureRxExtra |
		featureAnnounce | featureSetMAC | featureSpeed

	// controlled are the features that need the control queue.
	controlled = featureGuestOffloads | featureRx | featureRxExtra | featureAnnounce | featureMultiqueue | featureSetMAC
)

// guestOffloads are the features by which a driver takes what is left to be done,
// hostOffloads those by which it leaves it.
var (
	guestOffloads = []struct {
		feature uint64
		takes   Offloads
	}{
		{featureGuestCsum, Csum}, {featureGuestTSO4, TSO4}, {featureGuestTSO6, TSO6},
		{featureGuestECN, TSOECN}, {featureGuestUSO4, USO4}, {featureGuestUSO6, USO6},
	}
	hostOffloads = []struct {
		feature uint64
		takes   Offloads
	}{
		{featureCsum, Csum}, {featureHostTSO4, TSO4}, {featureHostTSO6, TSO6},
		{featureHostECN, TSOECN}, {featureHostUSO, USO4 | USO6},
	}
)

// takes is what the driver takes by features.
func takes(features uint64) (o Offloads) {
	for _, g := range guestOffloads {
		if features&g.feature != 0 {
			o |= g.takes
		}
	}
	return o.whole()
}

// leaves is what the driver may leave to be done by features.
func leaves(features uint64) (o Offloads) {
	for _, h := range hostOffloads {
		if features&h.feature != 0 {
			o |= h.takes
		}
	}
	return o.whole()
}

// The configuration space, section 5.1.4, and bits of its status.
const (
	configMAC    = 0
	configStatus = 6
	configPairs  = 8
	configMTU    = 10
	configSpeed  = 12
	configDuplex = 16
	configSize   = 17

	statusLinkUp   = 1
	statusAnnounce = 2

	fullDuplex = 1
)

const (
	// queueSize is the number of descriptors of each queue that carries frames.
	queueSize        = 256
	controlQueueSize = 64

	// MinMTU is the least that the specification allows (section 5.1.4.1), the
	// least MTU of IPv4.
	MinMTU     = 68
	MaxMTU     = 65535
	defaultMTU = 1500
	// defaultSpeed is what the link says to be, in Mbit/s.
	defaultSpeed = 10_000
)

// Config is a network device and what it is plugged into.
type Config struct {
	Port Port
	MAC  MAC
	// MTU is the longest IP packet in bytes, from MinMTU to MaxMTU. 0: 1500.
	MTU int
	// Pairs is the number of queue pairs, one for each vCPU that shall send and
	// receive by itself; up to MaxPairs. 0: 1.
	Pairs int
	// Speed is what the guest is told of the link, in Mbit/s. 0: 10 Gbit/s.
	Speed int
}

// Device is a network device. Its methods may be called from any goroutine.
type Device struct {
	cfg    Config
	limits Offloader // the port's, nil if it has none
	tx     []*transmitter
	rx     []*receiver

	link   atomic.Bool // up
	pairs  atomic.Int32
	takes  atomic.Uint32 // Offloads
	filter atomic.Pointer[filter]

	mu       sync.Mutex
	announce bool // and the driver has not said that it has
	changed  func()
}

var (
	_ virtio.Device         = (*Device)(nil)
	_ virtio.ConfigNotifier = (*Device)(nil)
	_ Receiver              = (*Device)(nil)
)

// New makes a device, whose link is up.
func New(cfg Config) (*Device, error) {
	if cfg.MTU == 0 {
		cfg.MTU = defaultMTU
	}
	if cfg.Pairs == 0 {
		cfg.Pairs = 1
	}
	if cfg.Speed == 0 {
		cfg.Speed = defaultSpeed
	}
	switch {
	case cfg.Port == nil:
		return nil, fmt.Errorf("net: device without a port")
	case cfg.MTU < MinMTU || cfg.MTU > MaxMTU:
		return nil, fmt.Errorf("net: MTU %d: give %d to %d", cfg.MTU, MinMTU, MaxMTU)
	case cfg.Pairs < 1 || cfg.Pairs > MaxPairs:
		return nil, fmt.Errorf("net: %d queue pairs: give 1 to %d", cfg.Pairs, MaxPairs)
	case !cfg.MAC.Unicast():
		return nil, fmt.Errorf("net: MAC address %v: give one of a single interface, the first byte even", cfg.MAC)
	}
	d := &Device{cfg: cfg}
	d.limits, _ = cfg.Port.(Offloader)
	for i := range cfg.Pairs {
		d.tx = append(d.tx, newTransmitter(d, i))
		d.rx = append(d.rx, newReceiver(d, i))
	}
	d.link.Store(true)
	d.forget()
	return d, nil
}

// Info implements virtio.Device: for each pair a receive and a transmit queue, then
// the control queue.
func (d *Device) Info() virtio.Info {
	info := virtio.Info{ID: virtio.IDNet, Name: "net", Features: features}
	left := AllOffloads
	if d.limits != nil {
		left = d.limits.Takes().whole()
	}
	for _, h := range hostOffloads {
		if left&h.takes == h.takes {
			info.Features |= h.feature
		}
	}
	if d.cfg.Pairs > 1 {
		info.Features |= featureMultiqueue
	}
	for range 2 * d.cfg.Pairs {
		info.QueueMax = append(info.QueueMax, queueSize)
	}
	info.QueueMax = append(info.QueueMax, controlQueueSize)
	return info
}

// ReadConfig implements virtio.Device.
func (d *Device) ReadConfig(p []byte, off uint64) {
	var config [configSize]byte
	copy(config[configMAC:], d.cfg.MAC[:])
	binary.LittleEndian.PutUint16(config[configStatus:], d.status())
	binary.LittleEndian.PutUint16(config[configPairs:], uint16(d.cfg.Pairs))
	binary.LittleEndian.PutUint16(config[configMTU:], uint16(d.cfg.MTU))
	binary.LittleEndian.PutUint32(config[configSpeed:], uint32(d.cfg.Speed))
	config[configDuplex] = fullDuplex
	clear(p)
	if off < configSize {
		copy(p, config[off:])
	}
}

func (d *Device) status() (s uint16) {
	if d.link.Load() {
		s |= statusLinkUp
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.announce {
		s |= statusAnnounce
	}
	return s
}

// OnConfigChange implements virtio.ConfigNotifier.
func (d *Device) OnConfigChange(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.changed = f
}

// configChanged tells the guest. The caller does not hold mu.
func (d *Device) configChanged() {
	d.mu.Lock()
	changed := d.changed
	d.mu.Unlock()
	if changed != nil {
		changed()
	}
}

// SetLink plugs the cable in or pulls it. Frames are dropped while it is out.
func (d *Device) SetLink(up bool) {
	if d.link.Swap(up) == up {
		return
	}
	d.configChanged()
	if !up {
		d.flush(0) // frames that wait for room learn that there is no link
	}
}

// Announce asks the guest to tell the network where it is, by gratuitous ARP and the
// like (section 5.1.6.5.4): for a machine that has come to another port.
func (d *Device) Announce() {
	d.mu.Lock()
	d.announce = true
	d.mu.Unlock()
	d.configChanged()
}

// flush has the port look again at what waits for receive queues from pair first on.
func (d *Device) flush(first int) {
	for i := first; i < len(d.rx); i++ {
		if d.rx[i].running() {
			d.cfg.Port.Ready(i)
		}
	}
}

// setTakes notes what the guest takes.
func (d *Device) setTakes(o Offloads) {
	o = o.whole()
	d.takes.Store(uint32(o))
	if d.limits != nil {
		d.limits.SetOffloads(o)
	}
}

// forget is the state before a driver has said anything.
func (d *Device) forget() {
	d.pairs.Store(1)
	d.takes.Store(0)
	// A driver that knows no filters gets everything.
	d.filter.Store(&filter{own: d.cfg.MAC, promiscuous: true})
}

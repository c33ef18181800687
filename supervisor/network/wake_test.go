package network

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	vnet "warder/devices/virtio/net"
	"warder/secmon/lan"
	"warder/secmon/lan/packet"
	"warder/supervisor/declaration"
)

// plugged is what is plugged into a port in tests: it counts what it gets.
type plugged struct {
	port *lan.Port
	got  atomic.Int32
	came sync.Map // a chan struct{} that has one when something came, by who sent it
}

func (*plugged) Queue(*vnet.Frame) int { return 0 }

func (s *plugged) Deliver(_ int, f *vnet.Frame, _ int) (int, error) {
	s.got.Add(1)
	if c, ok := s.came.Load(vnet.MAC(f.Head[6:])); ok {
		select {
		case c.(chan struct{}) <- struct{}{}:
		default:
		}
	}
	return 0, nil
}

// at plugs something into a port.
func at(t *testing.T, p *lan.Port) *plugged {
	t.Helper()
	s := &plugged{port: p}
	if err := p.Start(s); err != nil {
		t.Fatal(err)
	}
	return s
}

// say sends a segment of TCP from a port to one of another's.
func (s *plugged) say(to *lan.Port, from, port uint16, flags byte) {
	own, other := s.port.Config(), to.Config()
	b := append(append([]byte{}, other.MAC[:]...), own.MAC[:]...)
	b = append(b, 8, 0, 0x45, 0, 0, 40, 0, 0, 0, 0, 64, packet.TCP, 0, 0)
	b = append(append(b, own.Addresses[0].AsSlice()...), other.Addresses[0].AsSlice()...)
	binary.BigEndian.PutUint16(b[24:], packet.Checksum(b[14:34]))
	b = binary.BigEndian.AppendUint16(b, from)
	b = binary.BigEndian.AppendUint16(b, port)
	f := new(vnet.Frame)
	f.Fill(append(b, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, flags, 1, 0, 0, 0, 0, 0))
	s.port.Send(f)
}

// bedroom is a switch with a service that sleeps, and who holds it.
type bedroom struct {
	sw      *lan.Switch
	waker   *waker
	sleeper *lan.Port
	peers   []*plugged
	users   atomic.Int32
	asked   atomic.Int32 // how often it was to be held
	took    time.Duration
	fails   error
	alive   context.Context
	die     context.CancelFunc
}

func newBedroom(t *testing.T, peers byte) *bedroom {
	t.Helper()
	b := &bedroom{sw: lan.New(lan.Config{})}
	b.alive, b.die = context.WithCancel(context.Background())
	b.waker = newWaker(b.sw, func(ctx context.Context, service, peer string) (context.Context, func(), error) {
		b.asked.Add(1)
		if service != "sleeper" || peer[:4] != "peer" {
			t.Errorf("%s for %s", service, peer)
		}
		if b.took > 0 {
			select {
			case <-time.After(b.took):
			case <-ctx.Done():
				return nil, nil, ctx.Err()
			}
		}
		if b.fails != nil {
			return nil, nil, b.fails
		}
		b.users.Add(1)
		return b.alive, func() { b.users.Add(-1) }, nil
	})
	port := func(name string, n byte, wake func(p, by *lan.Port)) *lan.Port {
		p, err := b.sw.AddPort(lan.PortConfig{Name: name, VLAN: 1, MAC: vnet.MAC{2, 0, 0, 0, 0, n}, Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 0, n})}, Wake: wake})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	b.sleeper = port("sleeper", 200, b.waker.wake)
	for n := range peers {
		b.peers = append(b.peers, at(t, port(fmt.Sprint("peer", n), n+1, nil)))
	}
	if err := b.sw.SetRules([]lan.Rule{{From: lan.Everybody, To: lan.Everybody}}); err != nil {
		t.Fatal(err)
	}
	return b
}

func TestWaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBedroom(t, 2)
		vm, a, c := at(t, b.sleeper), b.peers[0], b.peers[1]
		is := func(what string, asked, users, got int32) {
			t.Helper()
			synctest.Wait()
			if b.asked.Load() != asked || b.users.Load() != users || vm.got.Load() != got {
				t.Errorf("%s: asked for %d times, %d hold it, %d frames came, want %d, %d, %d", what, b.asked.Load(), b.users.Load(), vm.got.Load(), asked, users, got)
			}
		}
		b.took = 10 * time.Second
		a.say(b.sleeper, 1000, 80, packet.SYN)
		c.say(b.sleeper, 1000, 80, packet.SYN)
		is("it starts", 1, 0, 0)
		time.Sleep(11 * time.Second)
		is("it runs", 1, 1, 2)
		vm.say(a.port, 80, 1000, packet.SYN|packet.ACK)
		vm.say(c.port, 80, 1000, packet.SYN|packet.ACK)
		a.say(b.sleeper, 1000, 80, packet.ACK)
		c.say(b.sleeper, 1000, 80, packet.ACK)
		time.Sleep(time.Hour)
		is("connections are open", 1, 1, 4)
		c.say(b.sleeper, 1000, 80, packet.RST)
		time.Sleep(time.Hour)
		is("one is", 1, 1, 5)
		a.say(b.sleeper, 1000, 80, packet.FIN|packet.ACK)
		vm.say(a.port, 80, 1000, packet.FIN|packet.ACK)
		time.Sleep(3 * time.Second)
		is("none is", 1, 0, 6)
		b.took = 0
		a.say(b.sleeper, 1001, 80, packet.SYN)
		is("again", 2, 1, 7)
		b.die()
		is("its VM has ended", 2, 0, 7)
		b.alive, b.die = context.WithCancel(context.Background())
		defer b.die()

		b.fails = errors.New("no room")
		for range 1000 {
			a.say(b.sleeper, 1002, 80, packet.SYN)
		}
		is("in vain", 3, 0, 7)
		time.Sleep(refusedPause + time.Millisecond)
		for range 1000 {
			a.say(b.sleeper, 1002, 80, packet.SYN)
		}
		is("in vain again", 4, 0, 7)
		b.fails = nil
		time.Sleep(refusedPause + time.Millisecond)
		a.say(b.sleeper, 1003, 80, packet.SYN)
		is("there is room", 5, 1, 8)

		b.sw.Remove(b.sleeper)
		time.Sleep(3 * time.Second)
		is("it was removed", 5, 0, 8)
		b.waker.close()
		b.waker.wake(b.sleeper, a.port)
		is("no more is woken", 5, 0, 8)
	})
}

// TestWakerCloses has a network close while a service starts, and while one is held.
func TestWakerCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, took := range []time.Duration{0, time.Hour} {
			b := newBedroom(t, 1)
			at(t, b.sleeper)
			b.took = took
			b.peers[0].say(b.sleeper, 1, 80, packet.SYN)
			synctest.Wait()
			b.waker.close()
			if n := b.users.Load(); n != 0 || b.asked.Load() != 1 {
				t.Errorf("%d hold it still", n)
			}
			b.die()
		}
	})
}

// TestHeldWhileOpen has connections come while the waker looks all the time whether there are
// any: none is open that does not hold the service.
func TestHeldWhileOpen(t *testing.T) {
	b := newBedroom(t, 3)
	defer b.die()
	vm := at(t, b.sleeper)
	over := make(chan struct{})
	var all, looks sync.WaitGroup
	looks.Go(func() {
		for {
			select {
			case <-over:
				return
			default:
				b.waker.letGo(time.Now())
			}
		}
	})
	for _, p := range b.peers {
		came := make(chan struct{}, 1)
		vm.came.Store(p.port.Config().MAC, came)
		all.Go(func() {
			for i := range uint16(100) {
				port := 1000 + i
				p.say(b.sleeper, port, 80, packet.SYN)
				<-came
				for range 10 {
					b.waker.letGo(time.Now())
					if b.users.Load() < 1 {
						t.Error("a connection is open, and nobody holds it")
					}
				}
				p.say(b.sleeper, port, 80, packet.RST)
				<-came
			}
		})
	}
	all.Wait()
	close(over)
	looks.Wait()
	b.waker.close()
	if n := b.users.Load(); n != 0 {
		t.Errorf("%d hold it still", n)
	}
}

// TestOnDemand has a service on a network sleep, and others not, also when it is added.
func TestOnDemand(t *testing.T) {
	cfg := Config{VLANs: []VLAN{{Name: "front", Network: netip.MustParsePrefix("10.1.0.0/24")}}}
	held, released := make(chan string, 1), make(chan struct{}, 1)
	n, err := New(cfg, []Service{{Name: "web", LAN: declaration.LAN{VLAN: "front"}}}, Options{
		Hold: func(_ context.Context, service, peer string) (context.Context, func(), error) {
			held <- peer + " > " + service
			return t.Context(), func() { released <- struct{}{} }, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	wiki := Service{Name: "wiki", OnDemand: true, LAN: declaration.LAN{VLAN: "front", Allow: []declaration.Allow{{From: declaration.List{"web"}, Ports: declaration.List{"tcp/80"}}}}}
	if _, err := put(t, n, wiki); err != nil {
		t.Fatal(err)
	}
	if n.Port("web").Config().Wake != nil || n.Port("wiki").Config().Wake == nil {
		t.Error("not the one that is started on demand sleeps")
	}
	web := at(t, n.Port("web"))
	web.say(n.Port("wiki"), 1, 81, packet.SYN) // which is not allowed
	web.say(n.Port("wiki"), 1, 80, packet.SYN)
	if by := <-held; by != "web > wiki" {
		t.Errorf("held for %s", by)
	}
	n.Remove("wiki")
	<-released
	if addrs, err := put(t, n, Service{Name: "wiki", LAN: wiki.LAN}); err != nil || !slices.Equal(addrs, n.Port("wiki").Config().Addresses) || n.Port("wiki").Config().Wake != nil {
		t.Errorf("%v, %v", addrs, err)
	}
}

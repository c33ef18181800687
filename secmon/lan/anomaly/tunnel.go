package anomaly

import (
	"fmt"
	"hash/maphash"
	"math"
	"strings"
	"time"
)

// When questions carry something besides themselves. A tunnel has to put its bytes
// into names that nobody has asked for before, or a cache would answer: many
// different names below one domain, long and without a pattern. iodine's are up to
// 255 characters, dnscat2's 40 to 240, several a second; what services look up in
// bulk (block lists, names of content networks) is short or few.
const (
	tunnelNames   = 30 // different names of one domain ...
	tunnelSpan    = int64(time.Minute)
	tunnelLength  = 24.0 // ... with as many characters below it, in the mean
	tunnelEntropy = 3.2  // bits a character: words of one language repeat, 32 hexadecimal digits have 3.6
	// A slow one has fewer and longer names.
	slowNames      = 60
	slowNamesSpan  = int64(time.Hour)
	slowNameLength = 50.0
	namesKnown     = 96
)

// domain is the questions below one domain.
type domain struct {
	names []asked
	told  int64
}

type asked struct {
	hash    uint64
	at      int64
	length  int
	entropy float64
}

var seed = maphash.MakeSeed()

// Questions says that the VM asks for a name, in small letters and without the last
// dot.
func (m *Machine) Questions(now int64, name string) (found []Finding) {
	below, parent := split(name)
	if below == "" || parent == "in-addr.arpa" || parent == "ip6.arpa" {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	d := m.domains.get(parent, now)
	d.ask(below, now)
	for _, c := range []struct {
		names  int
		span   int64
		length float64
	}{{tunnelNames, tunnelSpan, tunnelLength}, {slowNames, slowNamesSpan, slowNameLength}} {
		n, length, entropy := d.mean(now - c.span)
		if n >= c.names && length >= c.length && entropy >= tunnelEntropy && (d.told == 0 || now-d.told >= quiet) {
			d.told = now
			found = append(found, Finding{Tunnel, fmt.Sprintf("asks for %d different names below %s within %v, of %.0f characters in the mean and %.1f bits each",
				n, parent, time.Duration(c.span), length, entropy)})
		}
	}
	return found
}

// ask notes a name below the domain.
func (d *domain) ask(below string, now int64) {
	h := maphash.String(seed, below)
	oldest := 0
	for i := range d.names {
		if d.names[i].hash == h {
			d.names[i].at = now
			return
		}
		if d.names[i].at < d.names[oldest].at {
			oldest = i
		}
	}
	a := asked{h, now, len(below), entropy(below)}
	if len(d.names) < namesKnown {
		d.names = append(d.names, a)
	} else {
		d.names[oldest] = a
	}
}

// mean is of the names that were asked for since a time.
func (d *domain) mean(since int64) (n int, length, entropy float64) {
	for _, a := range d.names {
		if a.at >= since {
			n++
			length += float64(a.length)
			entropy += a.entropy
		}
	}
	if n == 0 {
		return 0, 0, 0
	}
	return n, length / float64(n), entropy / float64(n)
}

// split cuts a name into the domain that somebody has registered, by its look, and
// what is below it.
func split(name string) (below, parent string) {
	labels := strings.Split(name, ".")
	n := 2
	// co.uk, com.au, gov.br
	if len(labels) > 2 && len(labels[len(labels)-1]) == 2 && len(labels[len(labels)-2]) <= 3 {
		n = 3
	}
	if len(labels) <= n {
		return "", name
	}
	at := len(labels) - n
	return strings.Join(labels[:at], "."), strings.Join(labels[at:], ".")
}

// entropy is how many bits a character of s has, by how often each is in it. Dots
// count for nothing.
func entropy(s string) float64 {
	var counts [256]int
	n := 0
	for i := range len(s) {
		if s[i] != '.' {
			counts[s[i]]++
			n++
		}
	}
	bits := 0.0
	for _, c := range counts {
		if c > 0 {
			p := float64(c) / float64(n)
			bits -= p * math.Log2(p)
		}
	}
	return bits
}

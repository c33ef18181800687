package anomaly

import "time"

// When trying different things is a scan. A client of a service uses one port, of
// a few services (FTP, RPC, a mail host) up to ten; a service that starts reaches for
// those it depends on, seldom more than ten hosts on one port. A scan that is slow
// enough to stay below fastTried in fastSpan needs hours for what it wants to
// know, and is seen by the other pair.
const (
	fastTried = 20
	fastSpan  = int64(time.Minute)
	slowTried = 50
	slowSpan  = int64(time.Hour)
	// quiet is for how long a scan is not told again.
	quiet = int64(10 * time.Minute)
	// memory is how many different things are remembered; slowTried have to fit.
	memory = 64
)

// scan is the different things that were tried, each with its last time.
type scan[T comparable] struct {
	things []tried[T]
	told   int64 // when it was, 0 for never
}

type tried[T comparable] struct {
	what T
	at   int64
}

// try notes that something is tried. If that makes a scan, it says how many were tried
// within what time.
func (s *scan[T]) try(what T, now int64) (n int, in time.Duration) {
	oldest := 0
	known := false
	fast, slow := 0, 0
	for i := range s.things {
		t := &s.things[i]
		if t.what == what {
			t.at, known = now, true
		}
		if t.at < s.things[oldest].at {
			oldest = i
		}
		if now-t.at < fastSpan {
			fast++
		}
		if now-t.at < slowSpan {
			slow++
		}
	}
	if !known {
		fast, slow = fast+1, slow+1
		if len(s.things) < memory {
			s.things = append(s.things, tried[T]{what, now})
		} else {
			s.things[oldest] = tried[T]{what, now}
		}
	}
	switch {
	case s.told != 0 && now-s.told < quiet:
		return 0, 0
	case fast >= fastTried:
		n, in = fast, time.Duration(fastSpan)
	case slow >= slowTried:
		n, in = slow, time.Duration(slowSpan)
	default:
		return 0, 0
	}
	s.told = now
	return n, in
}

package lan

import (
	"sync"
)

const (
	// maxLearned is how many stations are known behind one port.
	maxLearned = 1024
	// age is how long a station is known that sends nothing, ns (802.1Q, 8.8.3).
	age = 300 * second
	// refresh is how old what is known of a station may be before it is written
	// again, ns, so that most frames only read.
	refresh = second
)

// stations is where stations are that were not assigned to a port: behind uplinks.
type stations struct {
	mu     sync.RWMutex
	at     map[station]sighting
	behind map[*Port]int
}

type sighting struct {
	port *Port
	when int64
}

// learn notes that who is behind p. What is known of others stays when there is no
// room: a port takes room only from itself.
func (s *stations) learn(who station, p *Port, now int64) {
	s.mu.RLock()
	old, known := s.at[who]
	s.mu.RUnlock()
	if known && old.port == p && now-old.when < refresh {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.at == nil {
		s.at, s.behind = make(map[station]sighting), make(map[*Port]int)
	}
	if old, known = s.at[who]; known && old.port != p || !known {
		if s.behind[p] == maxLearned && !s.expire(p, now) {
			return
		}
		if known {
			s.behind[old.port]--
		}
		s.behind[p]++
	}
	s.at[who] = sighting{p, now}
}

// expire forgets the stations behind p that are silent, and reports whether any was.
func (s *stations) expire(p *Port, now int64) (any bool) {
	for who, seen := range s.at {
		if seen.port == p && now-seen.when >= age {
			delete(s.at, who)
			s.behind[p]--
			any = true
		}
	}
	return any
}

// find is the port that a station is behind, nil if it is not known.
func (s *stations) find(who station, now int64) *Port {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if seen, ok := s.at[who]; ok && now-seen.when < age {
		return seen.port
	}
	return nil
}

// forget forgets what is behind a port.
func (s *stations) forget(p *Port) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for who, seen := range s.at {
		if seen.port == p {
			delete(s.at, who)
		}
	}
	delete(s.behind, p)
}

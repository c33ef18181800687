package sizing

import (
	"fmt"
	"time"
)

const (
	// A guest whose vCPUs wait for CPUs of the host for more than 1/delayed of the
	// time, together, has too little of them.
	delayed = 4
	// boost is how many times its declared weight a guest gets then at the most.
	boost = 4
)

// Boosted is the most that a guest's declared weight can become.
func Boosted(declared int) int { return min(declared*boost, 10000) } // CGROUP_WEIGHT_MAX

// nextWeight gives the weight of the guest's CPU time: more than is declared while its
// vCPUs wait for CPUs of the host and there are guests of smaller priority, at whose
// cost that is.
func (st *State) nextWeight(s Sample, b Bounds) int {
	if st.past == 0 {
		return s.Asked.Weight // too little time to tell
	}
	switch {
	case s.Senior && st.delay > 1.0/delayed:
		st.calmCPU = time.Time{}
		return b.Max.Weight
	case s.Asked.Weight == b.Min.Weight:
	case st.calmCPU.IsZero():
		st.calmCPU = s.Time
	case s.Time.Sub(st.calmCPU) >= Calm:
		st.calmCPU = time.Time{}
		return b.Min.Weight
	}
	return s.Asked.Weight
}

// whyWeight says what was known of the waiting for the host.
func (st *State) whyWeight() string {
	return fmt.Sprintf("its vCPUs waited %.2f of the time for a CPU of the host", st.delay)
}

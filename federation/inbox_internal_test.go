package federation

import "testing"

// However much changes, the loop is woken once for it, and again for what changes
// after it has looked.
func TestTheLoopIsWokenOnceForWhatComesTogether(t *testing.T) {
	p := &plane{inbox: inbox{wake: make(chan struct{}, 1)}}
	woken := func() bool {
		select {
		case <-p.inbox.wake:
			return true
		default:
			return false
		}
	}
	p.touch(evidenceChanged)
	if !woken() {
		t.Fatal("the first change does not wake the loop")
	}
	p.touch(catalogChanged)
	p.touch(sourceSpoke)
	if woken() {
		t.Error("the loop is woken by what it has not looked at yet")
	}
	if c, _ := p.takeChanges(); c != evidenceChanged|catalogChanged|sourceSpoke {
		t.Errorf("the loop takes %b", c)
	}
	p.touch(epochRaised)
	if !woken() {
		t.Error("what changes after a look does not wake the loop")
	}
	p.takeChanges()
	p.touch(catalogChanged)
	p.takeChanges() // by a round that something else has led to
	if woken() {
		t.Error("the loop is woken for what was taken")
	}
}

// A source that speaks while another one is judged is heard in the next round.
func TestASourceThatSpeaksWhileSourcesAreAskedIsNotLost(t *testing.T) {
	p := &plane{inbox: inbox{wake: make(chan struct{}, 1)}}
	p.touch(sourceSpoke)
	p.heedSources()
	if c, _ := p.takeChanges(); c != 0 {
		t.Errorf("what was heeded is taken again: %b", c)
	}
	p.touch(sourceSpoke)
	p.heedSources()
	p.touch(sourceSpoke) // after it was asked
	if c, _ := p.takeChanges(); c&sourceSpoke == 0 {
		t.Error("the word of a source is lost")
	}
}

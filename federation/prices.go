package federation

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/price"
	"github.com/isthmus-mesh/isthmus/federation/pricebook"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/federation/spend"
	"github.com/isthmus-mesh/isthmus/federation/store"
	"github.com/isthmus-mesh/isthmus/internal/durable"
)

const (
	// pricesPoint is the write point of the last good price book, spendPoint that of
	// the account of what was spent.
	pricesPoint durable.Point = "prices"
	spendPoint  durable.Point = "spend"
	// pricesLook is how often the price book's file and budgets are looked at, spendSave
	// how often the account is kept: what a crash loses is counted from the gateways'
	// next reports again.
	pricesLook = 5 * time.Second
	spendSave  = time.Minute
)

// prices are the price book, and the account of what was spent by it.
type prices struct {
	file    *pricebook.File // nil where none is configured
	kept    *store.LastGood
	ledger  spend.Ledger
	account *store.LastGood

	// The rest is the loop's own.
	looked, saved time.Time
	standings     []spend.Standing
	saving        []catalog.ServiceName
	// tariff is of the sites and of the book; it holds until next.
	tariff *route.Tariff
	sites  []price.Site
	book   *price.Book
	next   time.Time
}

// openPrices loads what was kept of prices and of what was spent. Neither keeps a
// federation from its work: what is damaged is told, and begins anew.
func (p *plane) openPrices() (err error) {
	if p.prices.account, err = store.NewLastGood(spendPoint, p.path("spend"), "account"); err != nil {
		return err
	}
	skipped, err := p.prices.account.Load(p.prices.ledger.Load)
	if err != nil || skipped != nil {
		p.log.Error("account of what was spent is damaged", "err", errors.Join(skipped, err))
	}
	if p.prices.kept, err = store.NewLastGood(pricesPoint, p.path("prices"), "book"); err != nil {
		return err
	}
	p.followPrices(p.opts.Config.PriceBook)
	return nil
}

// followPrices follows another file; "" is none.
func (p *plane) followPrices(path string) {
	p.pricing.Lock()
	defer p.pricing.Unlock()
	p.prices.file = nil
	if path != "" {
		p.prices.file = pricebook.NewFile(path, p.prices.kept)
		p.prices.file.Look(p.now())
		p.notePrices(p.prices.file.Status())
	}
	p.touch(catalogChanged)
}

func (p *plane) priceFile() *pricebook.File {
	p.pricing.Lock()
	defer p.pricing.Unlock()
	return p.prices.file
}

func (p *plane) priceBook() *price.Book {
	if f := p.priceFile(); f != nil {
		return f.Status().Book
	}
	return nil
}

// notePrices tells what became of the price book's file.
func (p *plane) notePrices(st pricebook.Status) {
	switch {
	case st.Err != nil && st.Book == nil:
		p.events.note(eventPriceBook, st.Path, "no prices are known, everything counts as free: "+st.Err.Error())
	case st.Err != nil:
		p.events.note(eventPriceBook, st.Path, "the book of before stays in force: "+st.Err.Error())
	default:
		p.events.note(eventPriceBook, st.Path, fmt.Sprintf("%d prices are in force", len(st.Book.Prices)))
	}
}

// lookPrices does what is due of prices and budgets by time alone.
func (p *plane) lookPrices(now time.Time) {
	if now.Sub(p.prices.looked) < pricesLook {
		return
	}
	p.prices.looked = now
	if f := p.priceFile(); f != nil && f.Look(now) {
		p.notePrices(f.Status())
	}
	book := p.priceBook()
	if book != p.prices.book || !p.prices.next.IsZero() && !now.Before(p.prices.next) {
		p.touch(catalogChanged)
	}
	p.judgeBudgets(now)
	p.metrics.spending(p.priceFile(), p.prices.ledger.Month(now), p.prices.standings)
	if now.Sub(p.prices.saved) >= spendSave {
		p.prices.saved = now
		p.saveSpend()
	}
}

// judgeBudgets tells of budgets that stand otherwise than before, and has a table made
// where a price weight changes for one.
func (p *plane) judgeBudgets(now time.Time) {
	index := p.loop.index
	if index == nil {
		return
	}
	var news []spend.Standing
	p.prices.standings, news = p.prices.ledger.Judge(now, func(s catalog.ServiceName) *policy.Budget { return index.TrafficFor(s).Budget })
	for i := range news {
		p.events.note(eventBudget, news[i].Service.String(), news[i].Text())
		if news[i].State == spend.Near || news[i].State == spend.Over {
			p.log.Warn("budget", "service", news[i].Service.String(), "status", string(news[i].State), "reason", news[i].Text())
		}
	}
	if saving := spend.Saving(p.prices.standings); !slices.Equal(saving, p.prices.saving) {
		p.prices.saving = saving
		p.touch(catalogChanged)
	}
}

// saveSpend keeps the account.
func (p *plane) saveSpend() {
	data, err := p.prices.ledger.Save()
	if err == nil && data != nil {
		if err = p.prices.account.Save(data); err != nil {
			p.prices.ledger.Unsaved()
		}
	}
	if err != nil {
		p.log.Error("account of what was spent is not kept", "err", err)
	}
}

// tariffFor is what a table of now says of prices.
func (p *plane) tariffFor(peers []route.Peer) *route.Tariff {
	pr, now, book := &p.prices, p.now(), p.priceBook()
	sites := price.Sites(peers)
	stale := !pr.next.IsZero() && !now.Before(pr.next)
	if book != pr.book || stale || !slices.Equal(sites, pr.sites) {
		pr.book, pr.sites, pr.next = book, sites, book.Next(now)
		pr.tariff = book.Tariff(p.opts.Locality, sites, now)
	}
	if pr.tariff == nil || len(pr.saving) == 0 {
		return pr.tariff
	}
	t := *pr.tariff
	t.Saving = pr.saving
	return &t
}

// pricesDamaged names what an operator must look at of prices.
func (p *plane) pricesDamaged() (out []string) {
	if f := p.priceFile(); f != nil {
		if st := f.Status(); st.Err != nil {
			out = append(out, "price book "+st.Path+": "+st.Err.Error())
		}
	}
	if damage := p.prices.account.Damage(); damage != nil {
		out = append(out, "account of what was spent: "+damage.Error())
	}
	return out
}

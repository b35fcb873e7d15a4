// Package price is the price book, what a GB costs between places as their clouds bill
// it, and what that makes of the paths of one cluster (route.Tariff). It is pure; package
// pricebook reads its files.
package price

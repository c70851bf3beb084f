/* Takes back the private macros of base.c, last in the implementation. Another part takes back its
   own at its own end. */
#ifdef RV__ASSERT_DEFAULT
#undef RV_ASSERT
#undef RV__ASSERT_DEFAULT
#endif
#undef RV__FETCH_ADD
#undef RV__FN
#undef RV__HUGE_PAGES
#undef RV__INLINE
#undef RV__LIKELY
#undef RV__LINE
#undef RV__LOAD_PTR
#undef RV__NO_SLOT
#undef RV__PIECE
#undef RV__PREFETCH
#undef RV__RESTRICT
#undef RV__SEED
#undef RV__STORE_PTR
#undef RV__TEAM_MAX
#undef RV__UNLIKELY
#undef RV__WORK

import { mount } from 'svelte'
import App from './App.svelte'
import './style/base.css'
import './style/frame.css'
import './style/nav.css'
import './style/page.css'
import './style/matrix.css'
import './style/map.css'
import './style/panel.css'
import './style/events.css'
import './style/sign-in.css'
import './style/phone.css'
import { theme } from './lib/theme.svelte'

theme.apply()
const target = document.getElementById('app')
if (!target) throw new Error('index.html has no #app')
mount(App, { target })
